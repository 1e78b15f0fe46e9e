// Batch norm by itself.
#pragma once

#include "moments.h"

// Batch norm of [samples, rows, C] with the statistics of the batch.
template <typename T>
struct BatchNorm {
    long samples, rows, channels, threads;

    // visit(sample, first channel of a vector), shared among threads
    template <typename Visit>
    void each(Visit visit) const {
        work_together(threads, samples, [&](const Worker& worker) {
            worker.share_samples([&](long n, long) {
                for (long c = 0; c < channels; c += lanes<T>) visit(n, c);
            });
        });
    }

    void forward(const T* x, const T* gain, const T* bias, T* y, const Statistics<T>& statistics) const {
        std::vector<double> of_samples(samples * 2 * channels);
        each([&](long n, long c) {
            double* into = of_samples.data() + 2 * n * channels + c;
            moments(x + n * rows * channels + c, rows, channels, into, into + channels);
        });
        statistics.set(of_samples.data(), samples, rows, channels);
        each([&](long n, long c) {
            const Lanes<T> mean = at(statistics.mean + c), shift = bias ? at(bias + c) : Lanes<T>{};
            const Lanes<T> scale = gain ? at(statistics.scale + c) * at(gain + c) : at(statistics.scale + c);
            const long first = n * rows * channels + c;
            for (long r = 0; r < rows; ++r)
                at(y + first + r * channels) = (at(x + first + r * channels) - mean) * scale + shift;
        });
    }

    void gradient(const T* g, const T* x, const T* gain, const T* mean, const T* scale, T* gx, T* of_gain,
                  T* of_bias) const {
        std::vector<double> of_samples(samples * 2 * channels), sums(2 * channels);
        each([&](long n, long c) {
            const Lanes<T> middle = at(mean + c);
            double* into = of_samples.data() + 2 * n * channels + c;
            const long first = n * rows * channels + c;
            sums_over_rows<T>(rows, into, into + channels, [&](long r, Lanes<T>& sum, Lanes<T>& products) {
                const Lanes<T> above = at(g + first + r * channels);
                sum += above;
                products += above * (at(x + first + r * channels) - middle);
            });
        });
        for (long n = 0; n < samples; ++n)
            for (long k = 0; k < 2 * channels; ++k) sums[k] += of_samples[2 * n * channels + k];
        std::vector<T> slopes(3 * channels);
        const double count = double(samples) * rows;
        for (long c = 0; c < channels; ++c) {
            const double inverse = scale[c], factor = gain ? inverse * gain[c] : inverse;
            if (of_bias) of_bias[c] = sums[c];
            if (of_gain) of_gain[c] = sums[channels + c] * inverse;
            slopes[c] = factor;
            slopes[channels + c] = -factor * inverse * inverse * sums[channels + c] / count;
            slopes[2 * channels + c] = -factor * sums[c] / count;
        }
        each([&](long n, long c) {
            const T* own = slopes.data() + c;
            const Lanes<T> middle = at(mean + c), a = at(own), b = at(own + channels), rest = at(own + 2 * channels);
            const long first = n * rows * channels + c;
            for (long r = 0; r < rows; ++r)
                at(gx + first + r * channels) =
                    at(g + first + r * channels) * a + ((at(x + first + r * channels) - middle) * b + rest);
        });
    }
};
