// A kernel here takes images, out uint8 (n, 3, height, width), rows int64 (count,), no two alike, and arguments (count,):
// out[rows[k]] is made of images[rows[k]] by the arguments' k-th numbers, and other rows of out are left alone.
// One block per image, channel after channel. 128 threads, one warp per row of pixels: CIFAR's rows are as long as a
// warp, and no pixel's place has to be divided. The grid is as large as the device runs at once; each block takes every
// so many-th of the rows.
#pragma once
#include "common.cuh"

constexpr int CHANNELS = 3;

struct Shape {
    int height, width;
    __device__ int pixels() const { return height * width; }
    __device__ int bytes() const { return CHANNELS * pixels(); }
    __device__ int place(int y, int x) const { return y * width + x; }
    __device__ bool holds(int y, int x) const { return y >= 0 && y < height && x >= 0 && x < width; }
};

__device__ inline int clamp(int64 value, int low, int high) {
    return static_cast<int>(min(max(value, static_cast<int64>(low)), static_cast<int64>(high)));
}

// Sixteen bytes per thread where both addresses and the count allow it, else one.
__device__ inline void copy_bytes(const uint8* from, uint8* to, int count) {
    const auto misaligned = reinterpret_cast<size_t>(from) | reinterpret_cast<size_t>(to) | static_cast<size_t>(count);
    const int thread = threadIdx.y * blockDim.x + threadIdx.x, threads = blockDim.x * blockDim.y;
    if (misaligned % sizeof(uint4)) {
        for (int i = thread; i < count; i += threads) to[i] = from[i];
        return;
    }
    const uint4* source = reinterpret_cast<const uint4*>(from);
    uint4* target = reinterpret_cast<uint4*>(to);
    for (int i = thread; i < count / static_cast<int>(sizeof(uint4)); i += threads) target[i] = source[i];
}

// work(k, image, result) for the image rows[k], for every k below count. With STAGED 1 both lie in shared memory meanwhile: the device's memory
// sees whole lines only, in whatever order pixels are read. Larger images are read where they are.
template <class Work>
__device__ inline void for_each_image(const uint8* images, const int64* rows, uint8* out, int64 count, Shape shape,
                                      SharedMemory& memory, Work work) {
    const int bytes = shape.bytes();
    uint8* staged = STAGED ? memory.take<uint8>(bytes) : nullptr;
    uint8* result = STAGED ? memory.take<uint8>(bytes) : nullptr;
    for (int64 k = blockIdx.x; k < count; k += gridDim.x) {
        const uint8* source = images + rows[k] * bytes;
        uint8* target = out + rows[k] * bytes;
        if (STAGED) copy_bytes(source, staged, bytes);
        __syncthreads();
        work(k, STAGED ? staged : source, STAGED ? result : target);
        __syncthreads();
        if (STAGED) copy_bytes(result, target, bytes);
    }
}

// work(y, x) for each pixel of the image, a thread each.
template <class Work> __device__ inline void for_each_pixel(Shape shape, Work work) {
    for (int y = threadIdx.y; y < shape.height; y += blockDim.y)
        for (int x = threadIdx.x; x < shape.width; x += blockDim.x) work(y, x);
}

// Numbers are rounded after every step, as in array code, and never fused into one multiply-add: so equal images come
// out. The compiler leaves __fmul_rn and __fadd_rn as they are.
__device__ inline float product_sum(float a, float b, float c, float d) {
    return __fadd_rn(__fmul_rn(a, b), __fmul_rn(c, d));
}

// Between bytes and floats by the bits of 2^23 + byte: a GPU converts at a quarter of the speed at which it adds.
constexpr unsigned TWO_TO_23_BITS = 0x4b000000u;
constexpr float TWO_TO_23 = 8388608.0f;

__device__ inline float to_float(uint8 level) { return __uint_as_float(TWO_TO_23_BITS | level) - TWO_TO_23; }

// Rounded, ties to even; value in 0 .. 255.
__device__ inline uint8 to_level(float value) { return static_cast<uint8>(__float_as_uint(value + TWO_TO_23)); }

// A pixel's three channels.
struct Color {
    float channels[CHANNELS];
};

// a (1 - part) + b part.
__device__ inline Color blend(const Color& a, const Color& b, float part) {
    Color mixed;
    for (int c = 0; c < CHANNELS; ++c)
        mixed.channels[c] = product_sum(a.channels[c], 1 - part, b.channels[c], part);
    return mixed;
}

// The pixel at that place of a channel, black if it is not inside of the image.
__device__ inline Color color_at(const uint8* image, int pixels, int place, bool inside) {
    Color color{};
    if (inside)
        for (int c = 0; c < CHANNELS; ++c) color.channels[c] = to_float(image[c * pixels + place]);
    return color;
}

__device__ inline void set_color(uint8* image, int pixels, int place, const Color& color) {
    for (int c = 0; c < CHANNELS; ++c) image[c * pixels + place] = to_level(color.channels[c]);
}
