// The weight gradient of a depthwise convolution at stride 1, on dense [N, H, W, C] maps, into taps [k, k, C].
// One row of taps stays in registers while the maps stream by, 64 bytes of channels at a time.

template <typename T, int K>
static void gradient(const T* x, const T* g, T* taps, long samples, long height, long width, long channels,
                     long dilation) {
    constexpr long lanes = 64 / sizeof(T);
    typedef T Lanes __attribute__((vector_size(64), aligned(sizeof(T))));
    const long reach = dilation * (K / 2);
    const long from = reach < width ? reach : width;           // columns [from, to) see all taps
    const long to = width - reach > from ? width - reach : from;
    for (long c = 0; c < channels; c += lanes)
        for (int i = 0; i < K; ++i) {
            Lanes sums[K] = {};
            for (long n = 0; n < samples; ++n)
                for (long h = 0; h < height; ++h) {
                    const long row = h + i * dilation - reach;
                    if (row < 0 || row >= height) continue;
                    const T* xs = x + (n * height + row) * width * channels + c;
                    const T* gs = g + (n * height + h) * width * channels + c;
                    auto border = [&](long begin, long end) {
                        for (long w = begin; w < end; ++w)
                            for (int j = 0; j < K; ++j) {
                                const long column = w + j * dilation - reach;
                                if (column >= 0 && column < width)
                                    sums[j] += *(const Lanes*)(gs + w * channels) * *(const Lanes*)(xs + column * channels);
                            }
                    };
                    border(0, from);
                    for (long w = from; w < to; ++w) {
                        const Lanes grad = *(const Lanes*)(gs + w * channels);
                        for (int j = 0; j < K; ++j)
                            sums[j] += grad * *(const Lanes*)(xs + (w + j * dilation - reach) * channels);
                    }
                    border(to, width);
                }
            for (int j = 0; j < K; ++j) *(Lanes*)(taps + (i * K + j) * channels + c) = sums[j];
        }
}

#define EXPORT(NAME, T, K)                                                                                          \
    extern "C" void NAME(const T* x, const T* g, T* taps, long n, long h, long w, long c, long dilation) {          \
        gradient<T, K>(x, g, taps, n, h, w, c, dilation);                                                           \
    }
EXPORT(float32_3, float, 3)
EXPORT(float32_5, float, 5)
EXPORT(float64_3, double, 3)
EXPORT(float64_5, double, 5)
