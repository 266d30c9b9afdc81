// Colour jitter: v = brightness image, clipped; then saturation v + (1 - saturation) grey of v, clipped.
// images, rows, out: see images.cuh; brightness, saturation float (count,).
#include "augment/images.cuh"

__device__ inline float clipped(float level) { return fminf(fmaxf(level, 0.0f), 255.0f); }

__device__ inline Color jittered(Color color, float brightness, float saturation) {
    for (float& level : color.channels) level = clipped(__fmul_rn(brightness, level));
    const float red_and_green = product_sum(0.2989f, color.channels[0], 0.587f, color.channels[1]);
    const float grey = __fadd_rn(red_and_green, __fmul_rn(0.114f, color.channels[2]));
    for (float& level : color.channels) level = clipped(product_sum(saturation, level, 1 - saturation, grey));
    return color;
}

extern "C" __global__ void jitter(const uint8* images, const int64* rows, const float* brightness,
                                  const float* saturation, uint8* out, int64 count, int height, int width) {
    SharedMemory memory;
    const Shape shape{height, width};
    for_each_image(images, rows, out, count, shape, memory, [=](int64 k, const uint8* image, uint8* result) {
        for_each_pixel(shape, [=](int y, int x) {
            const Color color = color_at(image, shape.pixels(), shape.place(y, x), true);
            set_color(result, shape.pixels(), shape.place(y, x), jittered(color, brightness[k], saturation[k]));
        });
    });
}
