// Rotation about the centre, counter-clockwise, bilinear, zero outside. images, rows, out: see images.cuh; cosine, sine
// float (count,). With (v, u) a pixel counted from the centre,
//     source row = u sine + v cosine + (height - 1) / 2,  source column = u cosine - v sine + (width - 1) / 2.
// The four neighbours are blended in float, in the order of the array code.
#include "augment/images.cuh"

__device__ inline void rotate_image(const uint8* image, Shape shape, float cosine, float sine, uint8* out) {
    const float middle_y = static_cast<float>(shape.height - 1) / 2, middle_x = static_cast<float>(shape.width - 1) / 2;
    for_each_pixel(shape, [=](int y, int x) {
        const float v = static_cast<float>(y) - middle_y, u = static_cast<float>(x) - middle_x;
        const float source_y = product_sum(u, sine, v, cosine) + middle_y;
        const float source_x = product_sum(u, cosine, -v, sine) + middle_x;
        const float top = floorf(source_y), left = floorf(source_x);
        const float below = source_y - top, right = source_x - left;
        const int row = static_cast<int>(top), column = static_cast<int>(left);
        const auto pixel = [=](int down, int across) {
            const int i = row + down, j = column + across;
            return color_at(image, shape.pixels(), shape.place(i, j), shape.holds(i, j));
        };
        const Color upper = blend(pixel(0, 0), pixel(0, 1), right), lower = blend(pixel(1, 0), pixel(1, 1), right);
        set_color(out, shape.pixels(), shape.place(y, x), blend(upper, lower, below));
    });
}

extern "C" __global__ void rotate(const uint8* images, const int64* rows, const float* cosine, const float* sine,
                                  uint8* out, int64 count, int height, int width) {
    SharedMemory memory;
    const Shape shape{height, width};
    for_each_image(images, rows, out, count, shape, memory, [=](int64 k, const uint8* image, uint8* result) {
        rotate_image(image, shape, cosine[k], sine[k], result);
    });
}
