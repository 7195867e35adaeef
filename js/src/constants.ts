/** Python's constants, by the module that defines and explains them: `python tests/web_cases.py` writes the file. */
import all from "./constants.json";

export const {
  boxes,
  detector,
  drawing,
  features,
  geometry,
  joint,
  keypoints,
  looks,
  models,
  pipeline,
  pose,
  schemes,
  smoothing,
  tracker,
  tracks,
} = all;
