// A plan for all images in one launch: each block does to its image what the image's kind says.
// images, out uint8 (n, 3, height, width); kind int64 (n,): 0 crop, 1 rotate, 2 cutout, 3 contrast and then hflip; the
// other parameters are those of the four (n,), of which an image's kind takes its own.
#include "contrast.cu"
#include "crop.cu"
#include "cutout.cu"
#include "rotate.cu"

extern "C" __global__ void augment(const uint8* images, const int64* kind, const int64* dy, const int64* dx,
                                   int64 padding, const float* cosine, const float* sine, const int64* top,
                                   const int64* left, const int64* size, const float* factor, const bool* flip,
                                   uint8* out, int64 n, int height, int width) {
    SharedMemory memory;
    int64* sums = memory.take<int64>(WARPS);
    const Shape shape{height, width};
    for_each_image(images, out, n, shape, memory, [=](int64 i, const uint8* image, uint8* result) {
        switch (kind[i]) {
        case 0: return crop_image(image, shape, dy[i] - padding, dx[i] - padding, result);
        case 1: return rotate_image(image, shape, cosine[i], sine[i], result);
        case 2: return cutout_image(image, shape, top[i], left[i], size[i], result);
        default: return contrast_image(image, shape, factor[i], flip[i], sums, result);
        }
    });
}
