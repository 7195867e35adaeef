// Images, and the two ways in which kpedge samples them: the crop of a face, and the frame of a detector.
// docs/coordinates.md derives the formulas; pixel (0, 0) is the centre of the first pixel.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

struct Image {  // blue-green-red or grey, row by row
    int width, height, channels;
    std::vector<std::uint8_t> pixels;

    Image(int w, int h, int c) : width(w), height(h), channels(c), pixels(std::size_t(w) * h * c) {}
    std::uint8_t& set(int x, int y, int c) { return pixels[(std::size_t(y) * width + x) * channels + c]; }
    // Beyond the edges the last pixels repeat.
    std::uint8_t at(int x, int y, int c) const {
        x = std::clamp(x, 0, width - 1), y = std::clamp(y, 0, height - 1);
        return pixels[(std::size_t(y) * width + x) * channels + c];
    }
};

inline std::uint8_t to_byte(double value) { return std::uint8_t(std::clamp(std::nearbyint(value), 0.0, 255.0)); }

// The image averaged down by a whole factor: bilinear sampling aliases when it shrinks.
inline Image shrink(const Image& image, int factor) {
    Image cells((image.width + factor - 1) / factor, (image.height + factor - 1) / factor, image.channels);
    for (int y = 0; y < cells.height; y++)
        for (int x = 0; x < cells.width; x++)
            for (int c = 0; c < image.channels; c++) {
                int sum = 0;
                for (int j = 0; j < factor; j++)
                    for (int i = 0; i < factor; i++) sum += image.at(x * factor + i, y * factor + j, c);
                cells.set(x, y, c) = factor == 2 ? std::uint8_t((sum + 2) / 4) : to_byte(double(sum) / factor / factor);
            }
    return cells;
}

// [crop] The upright square of `side` pixels around (x, y), of a face rotated by `roll` radians, as `size` x `size` pixels.
inline Image crop(const Image& image, double x, double y, double side, double roll, int size, bool grey, bool black) {
    double step = side / size;  // pixels of the image per pixel of the crop
    int factor = std::clamp(int(std::nearbyint(step)), 1, std::max(image.width, image.height));
    Image cells = factor > 1 ? shrink(image, factor) : image, result(size, size, grey ? 1 : 3);
    double cos = step * std::cos(roll) / factor, sin = step * std::sin(roll) / factor, middle = (size - 1) / 2.0;
    x = (x + 0.5) / factor - 0.5 - (cos - sin) * middle;  // where the crop's first pixel lies
    y = (y + 0.5) / factor - 0.5 - (sin + cos) * middle;
    auto value = [&](int i, int j, int c) -> double {
        if (black && (i < 0 || j < 0 || i >= cells.width || j >= cells.height)) return 0;
        if (!grey) return cells.at(i, j, c);
        return (3735 * cells.at(i, j, 0) + 19235 * cells.at(i, j, 1) + 9798 * cells.at(i, j, 2) + 16384) >> 15;
    };
    for (int v = 0; v < size; v++)
        for (int u = 0; u < size; u++)
            for (int c = 0; c < result.channels; c++) {
                double fx = x + cos * u - sin * v, fy = y + sin * u + cos * v;
                int i = int(std::floor(fx)), j = int(std::floor(fy));
                fx -= i, fy -= j;
                result.set(u, v, c) = to_byte((1 - fy) * ((1 - fx) * value(i, j, c) + fx * value(i + 1, j, c)) +
                                             fy * ((1 - fx) * value(i, j + 1, c) + fx * value(i + 1, j + 1, c)));
            }
    return result;
}
// [/crop]

// For each of `to` pixels in a row, which of `from` pixels it is made of, and their weights: areas when it shrinks, else
// the two nearest.
inline std::vector<std::vector<std::pair<int, float>>> taps(int from, int to) {
    std::vector<std::vector<std::pair<int, float>>> result(to);
    double scale = double(from) / to;
    for (int place = 0; place < to; place++) {
        double start = place * scale, end = start + scale, at = (place + 0.5) * scale - 0.5, first = std::floor(at);
        if (scale > 1) {
            for (int index = int(start); index < std::min<double>(from, end - 1e-9); index++)
                result[place].emplace_back(
                    index, float((std::min<double>(end, index + 1) - std::max<double>(start, index)) / scale));
        } else {
            for (int near = 0; near < 2; near++)
                result[place].emplace_back(std::clamp(int(first) + near, 0, from - 1),
                                           float(near ? at - first : 1 - at + first));
        }
    }
    return result;
}

// The image in another size, with black added right and below up to whole strides.
inline Image resize(const Image& image, int width, int height, int stride) {
    Image result((width + stride - 1) / stride * stride, (height + stride - 1) / stride * stride, image.channels);
    auto columns = taps(image.width, width), rows = taps(image.height, height);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < image.channels; c++) {
                float sum = 0;
                for (auto [j, down] : rows[y])
                    for (auto [i, across] : columns[x]) sum += down * across * image.at(i, j, c);
                result.set(x, y, c) = to_byte(sum);
            }
    return result;
}
