// The mirror image, left for right, of each image whose flip is true.
// images, rows, out: see images.cuh; flip bool (count,).
#include "augment/images.cuh"

__device__ inline void hflip_image(const uint8* image, Shape shape, bool flip, uint8* out) {
    for_each_pixel(shape, [=](int y, int x) {
        const int column = flip ? shape.width - 1 - x : x;
        for (int c = 0; c < CHANNELS; ++c) {
            const int row = c * shape.pixels() + shape.place(y, 0);
            out[row + x] = image[row + column];
        }
    });
}

extern "C" __global__ void hflip(const uint8* images, const int64* rows, const bool* flip, uint8* out, int64 count,
                                 int height, int width) {
    SharedMemory memory;
    const Shape shape{height, width};
    for_each_image(images, rows, out, count, shape, memory, [=](int64 k, const uint8* image, uint8* result) {
        hflip_image(image, shape, flip[k], result);
    });
}
