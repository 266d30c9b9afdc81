// Enlarges images to size x size pixels and normalises them, channels last, for a convolutional network.
// images uint8 (n, 3, height, width); scale, shift float (3,); out (n, size, size, 3), rows = n size, of Number: float or,
// with BFLOAT16 1, the bits of bfloat16. Bilinear between pixel centres, corners not aligned: pixel i of a side is at
// (i + 1/2) length / size - 1/2 of the image's side, or at 0 if that is negative; then pixel * scale + shift.
//
// A block computes one row at a time, and as many blocks run as the device holds: first the interpolated image row, with
// interleaved channels, in shared memory; then sixteen bytes of the row per thread, so that whole lines are written.
#include "common.cuh"

constexpr int CHANNELS = 3;

#if BFLOAT16
typedef unsigned short Number;

// Rounded to nearest, ties to even; NaN stays NaN.
__device__ inline Number to_number(float value) {
    const unsigned bits = __float_as_uint(value);
    if (value != value) return static_cast<Number>(bits >> 16 | 64);
    return static_cast<Number>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
#else
typedef float Number;

__device__ inline Number to_number(float value) { return value; }
#endif

struct alignas(16) Packet {
    Number numbers[16 / sizeof(Number)];
};
constexpr int PACKET = sizeof(Packet) / sizeof(Number);

// The two of `length` pixels between which pixel i of `size` lies, and how far towards the second.
struct Between {
    int first, second;
    float part;

    __device__ Between(int i, int size, int length) {
        const float ratio = static_cast<float>(length) / static_cast<float>(size);
        const float place = fmaxf(__fadd_rn(__fmul_rn(static_cast<float>(i) + 0.5f, ratio), -0.5f), 0.0f);
        first = min(static_cast<int>(place), length - 1);
        second = min(first + 1, length - 1);
        part = place - static_cast<float>(first);
    }

    __device__ float blend(float a, float b) const { return a * (1 - part) + b * part; }
};

// line (width, 3): row y of the result before horizontal interpolation, normalised.
__device__ inline void fetch_line(const uint8* image, const float* scale, const float* shift, int height, int width,
                                  const Between& rows, float* line) {
    for (int c = 0; c < CHANNELS; ++c) {
        const uint8* upper = image + (c * height + rows.first) * width;
        const uint8* lower = image + (c * height + rows.second) * width;
        for (int x = threadIdx.x; x < width; x += blockDim.x)
            line[x * CHANNELS + c] = rows.blend(upper[x], lower[x]) * scale[c] + shift[c];
    }
}

// Number i of the result's row (size, 3).
__device__ inline Number number_at(const float* line, int i, int size, int width) {
    const int x = i / CHANNELS, c = i % CHANNELS;
    const Between columns(x, size, width);
    return to_number(columns.blend(line[columns.first * CHANNELS + c], line[columns.second * CHANNELS + c]));
}

extern "C" __global__ void resize(const uint8* images, const float* scale, const float* shift, Number* out, int rows,
                                  int height, int width, int size) {
    SharedMemory memory;
    float* line = memory.take<float>(CHANNELS * width);
    const int numbers = CHANNELS * size;
    const bool packed = numbers % PACKET == 0 && reinterpret_cast<size_t>(out) % sizeof(Packet) == 0;
    for (int row = blockIdx.x; row < rows; row += gridDim.x) {
        const uint8* image = images + static_cast<int64>(row / size) * CHANNELS * height * width;
        Number* target = out + static_cast<int64>(row) * numbers;
        fetch_line(image, scale, shift, height, width, Between(row % size, size, height), line);
        __syncthreads();
        if (packed) {
            for (int i = threadIdx.x * PACKET; i < numbers; i += blockDim.x * PACKET) {
                Packet packet;
                for (int k = 0; k < PACKET; ++k) packet.numbers[k] = number_at(line, i + k, size, width);
                *reinterpret_cast<Packet*>(target + i) = packet;
            }
        } else {
            for (int i = threadIdx.x; i < numbers; i += blockDim.x) target[i] = number_at(line, i, size, width);
        }
        __syncthreads();
    }
}
