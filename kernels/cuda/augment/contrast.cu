// Contrast about an image's own mean: out = mean + factor (image - mean), rounded to even and clipped.
// images, rows, out: see images.cuh; factor float (count,); flip bool (count,): mirrored left for right too. The mean is
// over all pixels and channels; its sum is of integers, hence exact.
#include "augment/images.cuh"

constexpr int WARPS = 4; // of a block

// The sum over the block of one number per thread; sums: shared memory for one number per warp. A barrier has to follow before
// the next one.
__device__ inline int64 block_sum(int64 value, int64* sums) {
    for (int bits = LANES / 2; bits > 0; bits /= 2) value += __shfl_xor_sync(ALL_LANES, value, bits);
    if (threadIdx.x == 0) sums[threadIdx.y] = value;
    __syncthreads();
    return sums[0] + sums[1] + sums[2] + sums[3];
}

__device__ inline float mean_level(const uint8* image, Shape shape, int64* sums) {
    int64 sum = 0;
    for_each_pixel(shape, [&](int y, int x) {
        for (int c = 0; c < CHANNELS; ++c) sum += image[c * shape.pixels() + shape.place(y, x)];
    });
    return static_cast<float>(block_sum(sum, sums)) / static_cast<float>(shape.bytes());
}

__device__ inline void contrast_image(const uint8* image, Shape shape, float factor, bool flip, int64* sums, uint8* out) {
    const float mean = mean_level(image, shape, sums);
    for_each_pixel(shape, [=](int y, int x) {
        Color color = color_at(image, shape.pixels(), shape.place(y, flip ? shape.width - 1 - x : x), true);
        for (float& level : color.channels)
            level = fminf(fmaxf(mean + __fmul_rn(factor, level - mean), 0.0f), 255.0f);
        set_color(out, shape.pixels(), shape.place(y, x), color);
    });
}

extern "C" __global__ void contrast(const uint8* images, const int64* rows, const float* factor, const bool* flip,
                                    uint8* out, int64 count, int height, int width) {
    SharedMemory memory;
    int64* sums = memory.take<int64>(WARPS);
    const Shape shape{height, width};
    for_each_image(images, rows, out, count, shape, memory, [=](int64 k, const uint8* image, uint8* result) {
        contrast_image(image, shape, factor[k], flip[k], sums, result);
    });
}
