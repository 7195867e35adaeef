"""What every package uses: errors, results, geometry, boxes, keypoint schemes, model cards, files, images."""
