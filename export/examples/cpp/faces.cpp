// Faces and keypoints of photos with ONNX Runtime's C++ API and stb_image: what `kpedge predict --json` finds in photos with
// upright faces. Not here: rotated copies of photos without a face, tiles of images longer than 4:1.
//
//     faces detector.onnx stage3.onnx photo.jpg...
//
// Everything about the models comes from the card inside each file: input size and colour, crop rule, threshold, names.
#include <onnxruntime_cxx_api.h>

#define STB_IMAGE_IMPLEMENTATION
#include <stb_image.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <map>

#include "image.hpp"
#include "json.hpp"

using Point = std::array<double, 2>;
using Points = std::vector<Point>;
using Pairs = std::vector<std::array<int, 2>>;

// What kpedge's runtime adds to the cards, with its names there.
constexpr double BOX_SIDE = 0.673, BOX_BELOW = 0.135;       // kpedge/core/boxes.py
constexpr double VERIFIED = 0.9;                            // kpedge/runtime/models.py
constexpr double SMALL_ROLL = 10 * 3.14159265358979 / 180;  // kpedge/runtime/looks.py
constexpr double LOWEST = 0.1, JOINT_THRESHOLD = 0.5;       // kpedge/core/joint_score.py
constexpr double MIN_CONTRAST = 1.2;                        // kpedge/runtime/keypoints.py
constexpr double SUPPORT_OVERLAP = 0.6;                     // kpedge/runtime/detector.py
constexpr double SAME_FACE = 0.8;                           // kpedge/runtime/looks.py
constexpr int COARSE = 320, LARGEST_ZOOM = 2;               // kpedge/runtime/detector.py

struct Face {
    std::array<double, 4> box;  // x1 y1 x2 y2, pixels of the photo
    double score;
    Points points;
    std::vector<double> errors = {};  // expected, of each point, pixels
    double support = 0;               // scores of the detector's boxes that show this face, per size of the photo
};

class Model {
  public:
    Model(Ort::Env& env, const std::filesystem::path& path) : session_(env, path.c_str(), one_thread()), card(read()) {
        for (auto& pair : card["keypoints"]["mirror"].items)
            mirror.push_back({int(pair.items[0].number), int(pair.items[1].number)});
        if (auto value = card.find("threshold")) threshold = value->number;
    }

    // Output names and their values, for one input.
    std::map<std::string, std::vector<float>> operator()(Image& input) {
        std::array<std::int64_t, 4> shape{1, input.height, input.width, input.channels};
        auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
        auto tensor = Ort::Value::CreateTensor<std::uint8_t>(memory, input.pixels.data(), input.pixels.size(),
                                                             shape.data(), shape.size());
        std::vector<const char*> names;
        for (auto& output : card["outputs"].items) names.push_back(output["name"].text.c_str());
        const char* fed = card["input"]["name"].text.c_str();
        auto values = session_.Run(Ort::RunOptions{}, &fed, &tensor, 1, names.data(), names.size());
        std::map<std::string, std::vector<float>> result;
        for (std::size_t place = 0; place < names.size(); place++) {
            const float* start = values[place].GetTensorData<float>();
            result[names[place]].assign(start, start + values[place].GetTensorTypeAndShapeInfo().GetElementCount());
        }
        return result;
    }

  private:
    static Ort::SessionOptions one_thread() {
        Ort::SessionOptions options;
        options.SetIntraOpNumThreads(1);
        return options;
    }
    Json read() {
        Ort::AllocatorWithDefaultOptions allocator;
        auto text = session_.GetModelMetadata().LookupCustomMetadataMapAllocated("kpedge.card", allocator);
        if (!text) throw std::runtime_error("a model without a kpedge card");
        return Json(text.get());
    }
    Ort::Session session_;

  public:
    Json card;
    Pairs mirror;          // left and right points
    double threshold = 0;  // score from which on there is a face
};

// In-plane rotation, radians: the direction from the left points to the right ones.
double roll_of(const Points& points, const Pairs& mirror) {
    double x = 0, y = 0;
    for (auto [left, right] : mirror) x += points[right][0] - points[left][0], y += points[right][1] - points[left][1];
    return std::atan2(y, x);
}

double overlap(const std::array<double, 4>& a, const std::array<double, 4>& b) {
    double width = std::min(a[2], b[2]) - std::max(a[0], b[0]), height = std::min(a[3], b[3]) - std::max(a[1], b[1]);
    double both = std::max(0.0, width) * std::max(0.0, height);
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both);
}

// The faces of a photo, each with the detector's own points, by falling score.
std::vector<Face> detect(Model& model, const Image& photo, double threshold) {
    std::vector<Face> found, kept;
    int sizes = 0, longest = std::max(photo.width, photo.height), stride = int(model.card["stride"].number);
    std::size_t count = model.card["keypoints"]["points"].items.size();
    for (int side = std::min(int(model.card["side"].number), LARGEST_ZOOM * longest);; side = std::max(COARSE, side / 2)) {
        int width = std::max(1, int(std::nearbyint(photo.width * (double(side) / longest))));
        int height = std::max(1, int(std::nearbyint(photo.height * (double(side) / longest))));
        std::array<double, 2> zoom{double(width) / photo.width, double(height) / photo.height};
        Image frame = resize(photo, width, height, stride);
        auto out = model(frame);
        sizes++;
        auto in_photo = [&](double value, int axis) { return (value + 0.5) / zoom[axis] - 0.5; };
        for (std::size_t cell = 0; cell < out["scores"].size(); cell++) {
            if (out["scores"][cell] < std::min(threshold, LOWEST)) continue;
            Face face{{}, out["scores"][cell], Points(count)};
            for (int k = 0; k < 4; k++) face.box[k] = in_photo(out["boxes"][4 * cell + k], k % 2);
            for (std::size_t k = 0; k < 2 * count; k++)
                face.points[k / 2][k % 2] = in_photo(out["points"][2 * count * cell + k], int(k % 2));
            found.push_back(face);
        }
        if (side <= COARSE) break;
    }
    std::stable_sort(found.begin(), found.end(), [](auto& a, auto& b) { return a.score > b.score; });
    for (auto& face : found)
        if (face.score >= threshold && std::none_of(kept.begin(), kept.end(), [&](auto& better) {
                return overlap(face.box, better.box) > model.card["suppression"].number;
            }))
            kept.push_back(face);
    for (auto& face : kept) {  // what several boxes show is a face more often, and lies where they do in the mean
        Face mean{{}, face.score, Points(count)};
        for (auto& other : found)
            if (other.score >= LOWEST && overlap(face.box, other.box) >= SUPPORT_OVERLAP) {
                mean.support += other.score;
                for (int k = 0; k < 4; k++) mean.box[k] += other.score * other.box[k];
                for (std::size_t k = 0; k < 2 * count; k++) mean.points[k / 2][k % 2] += other.score * other.points[k / 2][k % 2];
            }
        if (mean.support == 0) continue;
        for (double& value : mean.box) value /= mean.support;
        for (auto& point : mean.points) point = {point[0] / mean.support, point[1] / mean.support};
        mean.support /= sizes;
        face = mean;
    }
    return kept;
}

// Keypoints in the crop of a box, pixels of the photo; score 0 where there is no face to be seen.
Face look(Model& model, const Image& photo, const std::array<double, 4>& box, double roll) {
    roll = std::abs(roll) > SMALL_ROLL ? roll : 0;
    double below = BOX_BELOW * (box[3] - box[1]);  // the mean of the points stays, the middle is below it along the face
    double x = (box[0] + box[2]) / 2 - below * std::sin(roll), y = (box[1] + box[3]) / 2 + below * (std::cos(roll) - 1);
    const Json& rule = model.card["crop"];
    double side = (1 + 2 * rule["widen"].number) * std::max(box[2] - box[0], box[3] - box[1]);
    int size = int(model.card["input"]["shape"].items[1].number);
    bool grey = model.card["input"]["colour"].text == "grey", black = rule["border"].text == "black";
    Image pixels = crop(photo, x, y, side, roll, size, grey, black);
    auto out = model(pixels);
    Face face{box, out.count("score") ? out["score"][0] : 1.0, {}};
    double contrast = 0;
    for (int c = 0; c < pixels.channels; c++) {
        double sum = 0, squares = 0, count = size * size;
        for (std::size_t at = c; at < pixels.pixels.size(); at += pixels.channels)
            sum += pixels.pixels[at], squares += double(pixels.pixels[at]) * pixels.pixels[at];
        contrast = std::max(contrast, std::sqrt(squares / count - sum / count * (sum / count)));
    }
    if (out.count("score") && contrast < MIN_CONTRAST) face.score = 0;
    for (std::size_t k = 0; k + 1 < out["keypoints"].size(); k += 2) {
        double across = side * (out["keypoints"][k] - 0.5), down = side * (out["keypoints"][k + 1] - 0.5);
        face.points.push_back({x + across * std::cos(roll) - down * std::sin(roll),
                               y + across * std::sin(roll) + down * std::cos(roll)});
    }
    if (out.count("error"))
        for (double error : out["error"]) face.errors.push_back(side * error);
    return face;
}

// The box that follows from 21 points in the convention of faces21 (docs/coordinates.md).
std::array<double, 4> box_of(const Points& points) {
    double x = 0, y = 0, squares = 0;
    for (auto& point : points) x += point[0] / points.size(), y += point[1] / points.size();
    for (auto& point : points) squares += (point[0] - x) * (point[0] - x) + (point[1] - y) * (point[1] - y);
    double side = BOX_SIDE * std::sqrt(squares);
    y += BOX_BELOW * side;
    return {x - side / 2, y - side / 2, x + side / 2, y + side / 2};
}

// Mean distance of points from their mean.
double spread(const Points& points) {
    double x = 0, y = 0, distances = 0, count = double(points.size());
    for (auto& point : points) x += point[0] / count, y += point[1] / count;
    for (auto& point : points) distances += std::hypot(point[0] - x, point[1] - y) / count;
    return distances;
}

// Mean expected error of the points, in their mean distance from their mean.
double relative_error(const Face& face) {
    double errors = 0;
    for (double error : face.errors) errors += error / double(face.errors.size());
    return errors / std::max(spread(face.points), 1e-6);
}

// Whether the points of a face are those of one of others: several boxes may lead to one face.
bool is_known(const Points& points, const std::vector<Points>& others) {
    return std::any_of(others.begin(), others.end(), [&](const Points& other) {
        double distance = 0;
        for (std::size_t k = 0; k < points.size(); k++)
            distance += std::hypot(points[k][0] - other[k][0], points[k][1] - other[k][1]) / double(points.size());
        return distance < SAME_FACE * spread(other);
    });
}

double logit(double score) { return score <= 0 ? -6 : score >= 1 ? 6 : std::clamp(std::log(score / (1 - score)), -6.0, 6.0); }

std::vector<Face> find_faces(Model& detector, Model& keypoints, const Image& photo) {
    bool scored = keypoints.threshold > 0, again = keypoints.card["keypoints"]["name"].text == "faces21";
    const Json* joint = keypoints.card.find("joint");  // decides with both scores, if it was measured for this detector
    if (joint && (*joint)["detector_sha256"].text != detector.card["weights_sha256"].text) joint = nullptr;
    double threshold = joint ? 0 : keypoints.threshold;
    std::vector<Face> faces;
    std::vector<Points> seen;
    for (auto& found : detect(detector, photo, joint ? LOWEST : detector.threshold * (scored ? VERIFIED : 1))) {
        Face face = look(keypoints, photo, found.box, roll_of(found.points, detector.mirror));
        if (again && face.score >= threshold)  // from a box like those that the model was trained on
            face = look(keypoints, photo, box_of(face.points), roll_of(face.points, keypoints.mirror));
        if (face.score >= threshold) {
            if (is_known(face.points, seen)) continue;
            seen.push_back(face.points);
        }
        if (joint) {
            double size = (found.box[2] - found.box[0]) / std::max(photo.width, photo.height);
            double sum = (*joint)["detector"].number * logit(found.score) + (*joint)["keypoints"].number * logit(face.score) +
                         (*joint)["error"].number * std::log(std::max(relative_error(face), 1e-4)) +
                         (*joint)["size"].number * std::log(std::max(size, 1e-4));
            if (auto weight = joint->find("support")) sum += weight->number * std::log(std::max(found.support, 1e-4));
            face.score = 1 / (1 + std::exp(-sum - (*joint)["constant"].number));
        }
        if (face.score < (joint ? JOINT_THRESHOLD : threshold)) continue;
        face.box = found.box;
        faces.push_back(face);
    }
    return faces;
}

Image read_photo(const char* path) {
    int width, height, channels;
    std::uint8_t* rgb = stbi_load(path, &width, &height, &channels, 3);
    if (!rgb) throw std::runtime_error(std::string(path) + ": " + stbi_failure_reason());
    Image photo(width, height, 3);
    for (std::size_t at = 0; at < photo.pixels.size(); at++) photo.pixels[at] = rgb[at / 3 * 3 + 2 - at % 3];
    stbi_image_free(rgb);
    return photo;
}

int main(int count, char** arguments) try {
    if (count < 4) throw std::runtime_error("usage: faces DETECTOR.onnx KEYPOINTS.onnx PHOTO...");
    Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "faces");
    Model detector(env, arguments[1]), keypoints(env, arguments[2]);
    for (int number = 3; number < count; number++) {
        auto faces = find_faces(detector, keypoints, read_photo(arguments[number]));
        std::printf("{\"faces\": [");
        for (auto& face : faces) {
            std::printf("%s{\"box\": [%.3f, %.3f, %.3f, %.3f], \"score\": %.3f, \"keypoints\": [", &face == &faces[0] ? "" : ", ",
                        face.box[0], face.box[1], face.box[2], face.box[3], face.score);
            for (auto& point : face.points)
                std::printf("%s[%.3f, %.3f]", &point == &face.points[0] ? "" : ", ", point[0], point[1]);
            std::printf("]}");
        }
        std::printf("]}\n");
    }
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "faces: %s\n", error.what());
    return 1;
}
