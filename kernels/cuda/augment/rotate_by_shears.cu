// Rotation of square images by quarter turns and three shears, along x, y, x, each linearly interpolated.
// images, rows, out: see images.cuh; quarters int64 (count,), 0 to 3; tangent = tan(r / 2), sine = sin(r), float (count,).
// A shear moves each line by its own offset o, with p = o - floor(o):
//     out[x] = line[x + floor(o)] (1 - p) + line[x + floor(o) + 1] p
// Each pixel is computed back through the three of them, from eight of the image: seven blends instead of three, but no
// canvas of floats, which would leave room in shared memory for a few images only.
#include "augment/images.cuh"

// The square image turned counter-clockwise by quarter turns: its pixel (y, x) lies at first + y down + x across.
struct Turned {
    const uint8* image;
    Shape shape;
    int first, down, across;

    __device__ Turned(const uint8* image, Shape shape, int64 quarters) : image(image), shape(shape) {
        const int side = shape.width, last = side - 1;
        first = quarters == 0 ? 0 : quarters == 1 ? last : quarters == 2 ? last * side + last : last * side;
        down = quarters == 0 ? side : quarters == 1 ? -1 : quarters == 2 ? -side : 1;
        across = quarters == 0 ? 1 : quarters == 1 ? side : quarters == 2 ? -1 : -side;
    }

    __device__ Color operator()(int y, int x) const {
        return color_at(image, shape.pixels(), first + y * down + x * across, shape.holds(y, x));
    }
};

// How far a shear moves a line: by whole pixels, and a part of one more.
struct Shift {
    int whole;
    float part;

    __device__ Shift(float slope, int line, int side) {
        const float offset = __fmul_rn(slope, static_cast<float>(line) - static_cast<float>(side - 1) / 2);
        const float floored = floorf(offset);
        whole = static_cast<int>(floored);
        part = offset - floored;
    }
};

// Each the pixel (y, x) after that many shears; tangent, sine as above.
struct Sheared {
    Turned image;
    float tangent, sine;

    __device__ Color once(int y, int x) const {
        const Shift shift(-tangent, y, image.shape.width);
        return blend(image(y, x + shift.whole), image(y, x + shift.whole + 1), shift.part);
    }

    __device__ Color twice(int y, int x) const {
        const Shift shift(sine, x, image.shape.width);
        return blend(once(y + shift.whole, x), once(y + shift.whole + 1, x), shift.part);
    }

    __device__ Color thrice(int y, int x) const {
        const Shift shift(-tangent, y, image.shape.width);
        return blend(twice(y, x + shift.whole), twice(y, x + shift.whole + 1), shift.part);
    }
};

extern "C" __global__ void rotate_by_shears(const uint8* images, const int64* rows, const int64* quarters,
                                            const float* tangent, const float* sine, uint8* out, int64 count,
                                            int height, int width) {
    SharedMemory memory;
    const Shape shape{height, width};
    for_each_image(images, rows, out, count, shape, memory, [=](int64 k, const uint8* image, uint8* result) {
        const Sheared sheared{Turned(image, shape, quarters[k]), tangent[k], sine[k]};
        for_each_pixel(shape, [=](int y, int x) {
            set_color(result, shape.pixels(), shape.place(y, x), sheared.thrice(y, x));
        });
    });
}
