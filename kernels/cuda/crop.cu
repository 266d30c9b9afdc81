// A window of each image, padded by zeros: out[y, x] = image[y + dy - padding, x + dx - padding].
// images, out uint8 (n, 3, height, width); dy, dx int64 (n,).
#include "images.cuh"

__device__ inline void crop_image(const uint8* image, Shape shape, int64 down, int64 across, uint8* out) {
    const int rows = clamp(down, -shape.height, shape.height), columns = clamp(across, -shape.width, shape.width);
    for_each_pixel(shape, [=](int y, int x) {
        const bool inside = shape.holds(y + rows, x + columns);
        const int place = shape.place(y, x), source = shape.place(y + rows, x + columns);
        for (int c = 0; c < CHANNELS; ++c)
            out[c * shape.pixels() + place] = inside ? image[c * shape.pixels() + source] : uint8(0);
    });
}

extern "C" __global__ void crop(const uint8* images, const int64* dy, const int64* dx, int64 padding, uint8* out,
                                int64 n, int height, int width) {
    SharedMemory memory;
    const Shape shape{height, width};
    for_each_image(images, out, n, shape, memory, [=](int64 i, const uint8* image, uint8* result) {
        crop_image(image, shape, dy[i] - padding, dx[i] - padding, result);
    });
}
