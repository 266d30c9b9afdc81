// K-means patch features (Coates, Ng and Lee 2011) of whole images: nothing but the features leaves the multiprocessor.
//
// A block takes one image after another, into shared memory. Its warps share out the positions of patches, GROUP of one
// quadrant at a time: a warp writes their normalised patches to its own part of shared memory, multiplies them with the
// triangle and with the centroids, and adds up the activations of the quadrant. In a product, a lane has every 32nd row
// of the triangle, or every 32nd centroid, and all positions of the group, in registers.
//
// Sums have a fixed order: over pixels by number; over the triangle's rows and over centroids first within a lane, then
// between lanes; over positions first within a group, then within a warp, then between warps.
#include "common.cuh"

constexpr int SIDE = 6; // of a patch
constexpr int GROUP = 16; // positions
constexpr int UNITS = 4; // rows of the triangle, or centroids, of a lane
constexpr int MOST = UNITS * LANES;
constexpr int QUADRANTS = 4;
constexpr int BLOCKS = sizeof(REAL) == 4 ? 2 : 1; // at a time on a multiprocessor, for whose registers there is room
constexpr REAL NOISE = 10; // added to a patch's variance

// Sixteen bytes: what a lane loads at once.
struct alignas(16) Packet {
    REAL numbers[16 / sizeof(REAL)];
};
constexpr int PACKET = sizeof(Packet) / sizeof(REAL);

// The positions of patches in an image (channels, height, width), and their quadrants: the first are the larger ones.
struct Grid {
    int channels, height, width;

    __device__ int pixels() const { return channels * SIDE * SIDE; } // of a patch
    __device__ int rows() const { return height - SIDE + 1; }
    __device__ int columns() const { return width - SIDE + 1; }
    __device__ int top(int quadrant) const { return quadrant < 2 ? 0 : (rows() + 1) / 2; }
    __device__ int left(int quadrant) const { return quadrant % 2 == 0 ? 0 : (columns() + 1) / 2; }
    __device__ int rows_of(int quadrant) const { return quadrant < 2 ? (rows() + 1) / 2 : rows() / 2; }
    __device__ int columns_of(int quadrant) const { return quadrant % 2 == 0 ? (columns() + 1) / 2 : columns() / 2; }
    __device__ int positions_of(int quadrant) const { return rows_of(quadrant) * columns_of(quadrant); }
    __device__ int groups_of(int quadrant) const { return (positions_of(quadrant) + GROUP - 1) / GROUP; }

    // The first pixel of the patch at that position of a quadrant.
    __device__ int corner(int quadrant, int position) const {
        const int columns = columns_of(quadrant);
        return (top(quadrant) + position / columns) * width + left(quadrant) + position % columns;
    }
};

__device__ inline REAL of_warp(REAL value) {
    for (int bits = LANES / 2; bits > 0; bits /= 2) value += __shfl_xor_sync(ALL_LANES, value, bits);
    return value;
}

// patches (pixels, GROUP) = the patches of the group, normalised, less mean (pixels,). Two lanes share a position, each
// with every second column of the patch; positions behind the quadrant's last repeat it. Sums of pixels are exact.
__device__ void cut(const Grid& grid, const uint8* image, int quadrant, int first, const REAL* mean, REAL* patches) {
    const int place = threadIdx.x % GROUP, half = threadIdx.x % LANES / GROUP, pixels = grid.pixels();
    const uint8* corner = image + grid.corner(quadrant, min(first + place, grid.positions_of(quadrant) - 1));
    int64 total = 0, squares = 0;
    for (int c = 0; c < grid.channels; ++c)
        for (int y = 0; y < SIDE; ++y)
            for (int x = half; x < SIDE; x += 2) {
                const int pixel = corner[(c * grid.height + y) * grid.width + x];
                total += pixel;
                squares += pixel * pixel;
            }
    total += __shfl_xor_sync(ALL_LANES, total, GROUP);
    squares += __shfl_xor_sync(ALL_LANES, squares, GROUP);
    const REAL variance = static_cast<REAL>(pixels * squares - total * total) / static_cast<REAL>(pixels * pixels);
    const REAL scale = 1 / (sqrt(variance + NOISE) * static_cast<REAL>(pixels));
    for (int c = 0; c < grid.channels; ++c)
        for (int y = 0; y < SIDE; ++y)
            for (int x = half; x < SIDE; x += 2) {
                const int pixel = corner[(c * grid.height + y) * grid.width + x], k = (c * SIDE + y) * SIDE + x;
                patches[k * GROUP + place] = static_cast<REAL>(pixels * pixel - static_cast<int>(total)) * scale - mean[k];
            }
}

// products += weights (pixels, columns), rows from `begin` to `end`, times patches, in the lane's first USED units.
template <int USED>
__device__ void multiply(const REAL* weights, int columns, int begin, int end, const REAL* patches,
                         REAL (&products)[UNITS][GROUP]) {
    const int lane = threadIdx.x % LANES;
    for (int k = begin; k < end; ++k) {
        const Packet* packets = reinterpret_cast<const Packet*>(patches + k * GROUP);
        REAL weight[USED];
#pragma unroll
        for (int u = 0; u < USED; ++u) {
            const int unit = lane + u * LANES;
            weight[u] = unit < columns ? __ldg(weights + k * columns + unit) : 0;
        }
#pragma unroll
        for (int p = 0; p < GROUP; p += PACKET) {
            const Packet packet = packets[p / PACKET];
#pragma unroll
            for (int i = 0; i < PACKET; ++i)
#pragma unroll
                for (int u = 0; u < USED; ++u) products[u][p + i] += weight[u] * packet.numbers[i];
        }
    }
}

__device__ void clear(REAL (&products)[UNITS][GROUP]) {
#pragma unroll
    for (int u = 0; u < UNITS; ++u)
#pragma unroll
        for (int p = 0; p < GROUP; ++p) products[u][p] = 0;
}

// squares (GROUP,) = the squared lengths of the triangle's products with the patches. triangle (pixels, pixels): number
// (k, r) is that of row r and pixel k, 0 where k < r, which is skipped by whole units.
__device__ void measure(const REAL* triangle, int pixels, const REAL* patches, REAL (&squares)[GROUP]) {
    REAL products[UNITS][GROUP];
    clear(products);
    static_assert(UNITS == 4);
    multiply<1>(triangle, pixels, 0, min(pixels, LANES), patches, products);
    multiply<2>(triangle, pixels, LANES, min(pixels, 2 * LANES), patches, products);
    multiply<3>(triangle, pixels, 2 * LANES, min(pixels, 3 * LANES), patches, products);
    multiply<4>(triangle, pixels, 3 * LANES, pixels, patches, products);
#pragma unroll
    for (int p = 0; p < GROUP; ++p) {
        REAL sum = 0;
#pragma unroll
        for (int u = 0; u < UNITS; ++u) sum += products[u][p] * products[u][p];
        squares[p] = of_warp(sum);
    }
}

// sums (MOST,) += the activations max(0, mean(z) - z) of each centroid over the first `valid` positions, z being the
// distances of a position's whitened patch to all `count` centroids; all are taken less the distance to zero.
__device__ void activate(const REAL* centroids, const REAL* lengths, int count, int pixels, const REAL* patches,
                         const REAL (&squares)[GROUP], int valid, REAL* sums) {
    const int lane = threadIdx.x % LANES;
    REAL products[UNITS][GROUP], length[UNITS], activations[UNITS];
    clear(products);
    multiply<UNITS>(centroids, count, 0, pixels, patches, products);
#pragma unroll
    for (int u = 0; u < UNITS; ++u) {
        length[u] = lane + u * LANES < count ? lengths[lane + u * LANES] : 0;
        activations[u] = 0;
    }
#pragma unroll
    for (int p = 0; p < GROUP; ++p) {
        const REAL origin = sqrt(squares[p]);
        REAL average = 0;
#pragma unroll
        for (int u = 0; u < UNITS; ++u) {
            const REAL squared = squares[p] - 2 * products[u][p] + length[u];
            products[u][p] = sqrt(squared < 0 ? REAL(0) : squared) - origin; // from here on distances
            if (lane + u * LANES < count) average += products[u][p];
        }
        average = of_warp(average) / static_cast<REAL>(count);
#pragma unroll
        for (int u = 0; u < UNITS; ++u) {
            const REAL closeness = average - products[u][p];
            if (p < valid) activations[u] += closeness < 0 ? REAL(0) : closeness;
        }
    }
#pragma unroll
    for (int u = 0; u < UNITS; ++u) sums[lane + u * LANES] += activations[u];
}

// out (QUADRANTS, count) = the means of the warps' sums (warps, QUADRANTS, MOST).
__device__ void pool(const Grid& grid, const REAL* sums, int warps, int count, REAL* out) {
    for (int i = threadIdx.x; i < QUADRANTS * count; i += blockDim.x) {
        const int quadrant = i / count, unit = i % count;
        REAL sum = 0;
        for (int w = 0; w < warps; ++w) sum += sums[(w * QUADRANTS + quadrant) * MOST + unit];
        out[i] = sum / static_cast<REAL>(grid.positions_of(quadrant));
    }
}

// images (n, channels, height, width); mean (pixels,); triangle (pixels, pixels) and centroids (pixels, count), one row
// a pixel of patches; lengths (count,); out (n, QUADRANTS count). pixels = 36 channels and count are up to MOST.
extern "C" __global__ void __launch_bounds__(256, BLOCKS)
    patch_features(const uint8* images, const REAL* mean, const REAL* triangle, const REAL* centroids,
                   const REAL* lengths, REAL* out, int n, int channels, int height, int width, int count) {
    const Grid grid{channels, height, width};
    const int warp = threadIdx.x / LANES, warps = blockDim.x / LANES, size = channels * height * width;
    SharedMemory memory;
    REAL* all_sums = memory.take<REAL>(warps * QUADRANTS * MOST);
    REAL* patches = memory.take<REAL>(warps * grid.pixels() * GROUP) + warp * grid.pixels() * GROUP;
    uint8* image = memory.take<uint8>(size);
    for (int i = blockIdx.x; i < n; i += gridDim.x) {
        for (int j = threadIdx.x; j < size; j += blockDim.x) image[j] = images[static_cast<int64>(i) * size + j];
        for (int j = threadIdx.x; j < warps * QUADRANTS * MOST; j += blockDim.x) all_sums[j] = 0;
        __syncthreads();
        int number = 0; // of a group: warps take them in turns
        for (int quadrant = 0; quadrant < QUADRANTS; ++quadrant)
            for (int group = 0; group < grid.groups_of(quadrant); ++group, ++number) {
                if (number % warps != warp) continue;
                REAL squares[GROUP];
                cut(grid, image, quadrant, group * GROUP, mean, patches);
                __syncwarp();
                measure(triangle, grid.pixels(), patches, squares);
                activate(centroids, lengths, count, grid.pixels(), patches, squares,
                         grid.positions_of(quadrant) - group * GROUP, all_sums + (warp * QUADRANTS + quadrant) * MOST);
                __syncwarp();
            }
        __syncthreads();
        pool(grid, all_sums, warps, count, out + static_cast<int64>(i) * QUADRANTS * count);
        __syncthreads();
    }
}
