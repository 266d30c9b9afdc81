// An image moved, with zeros where nothing moves to: out[y, x] = image[y + down, x + across].
// images, rows, out: see images.cuh; down, across int64 (count,).
#include "augment/images.cuh"

__device__ inline void crop_image(const uint8* image, Shape shape, int64 down, int64 across, uint8* out) {
    const int rows = clamp(down, -shape.height, shape.height), columns = clamp(across, -shape.width, shape.width);
    for_each_pixel(shape, [=](int y, int x) {
        const bool inside = shape.holds(y + rows, x + columns);
        const int place = shape.place(y, x), source = shape.place(y + rows, x + columns);
        for (int c = 0; c < CHANNELS; ++c)
            out[c * shape.pixels() + place] = inside ? image[c * shape.pixels() + source] : uint8(0);
    });
}

extern "C" __global__ void crop(const uint8* images, const int64* rows, const int64* down, const int64* across,
                                uint8* out, int64 count, int height, int width) {
    SharedMemory memory;
    const Shape shape{height, width};
    for_each_image(images, rows, out, count, shape, memory, [=](int64 k, const uint8* image, uint8* result) {
        crop_image(image, shape, down[k], across[k], result);
    });
}
