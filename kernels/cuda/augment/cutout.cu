// Zeros in a square of each image: rows top to top + size, columns left to left + size, clipped to the image.
// images, rows, out: see images.cuh; top, left, size int64 (count,).
#include "augment/images.cuh"

__device__ inline void cutout_image(const uint8* image, Shape shape, int64 top, int64 left, int64 size, uint8* out) {
    const int first_row = clamp(top, 0, shape.height), last_row = clamp(top + size, 0, shape.height);
    const int first_column = clamp(left, 0, shape.width), last_column = clamp(left + size, 0, shape.width);
    for_each_pixel(shape, [=](int y, int x) {
        const bool hole = y >= first_row && y < last_row && x >= first_column && x < last_column;
        for (int c = 0; c < CHANNELS; ++c) {
            const int place = c * shape.pixels() + shape.place(y, x);
            out[place] = hole ? uint8(0) : image[place];
        }
    });
}

extern "C" __global__ void cutout(const uint8* images, const int64* rows, const int64* top, const int64* left,
                                  const int64* size, uint8* out, int64 count, int height, int width) {
    SharedMemory memory;
    const Shape shape{height, width};
    for_each_image(images, rows, out, count, shape, memory, [=](int64 k, const uint8* image, uint8* result) {
        cutout_image(image, shape, top[k], left[k], size[k], result);
    });
}
