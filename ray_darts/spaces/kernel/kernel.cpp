// The most expensive operations of a search step on a CPU, on dense [N, H, W, C] maps with C a multiple of 64 bytes,
// and of text on [J, N, H].
//
// Threads share samples; no result depends on how many there are, as samples are added up in slices of the batch.

#include "batch_norm.h"
#include "group_forward.h"
#include "group_gradient.h"
#include "highway.h"
#include "separable.h"

#define EXPORT_GROUP(NAME, T)                                                            \
    extern "C" void NAME##_group(const Group<T>* group) { group_forward(*group); }       \
    extern "C" void NAME##_group_gradient(const Group<T>* group) { group_gradient(*group); }
#define EXPORT(NAME, T)                                                                                              \
    extern "C" void NAME##_separable(const T* x, const T* kernel, const T* mixing, T* y, long size, long n, long h,  \
                                     long w, long c, long dilation, long threads) {                                  \
        Separable<T>{{size, 1, dilation}, n, h, w, c, threads, kernel, mixing}.forward(x, y);                        \
    }                                                                                                                \
    extern "C" void NAME##_separable_gradient(const T* g, const T* x, const T* kernel, const T* mixing, T* gx,       \
                                              T* of_kernel, T* of_mixing, long size, long n, long h, long w, long c, \
                                              long dilation, long threads) {                                         \
        Separable<T>{{size, 1, dilation}, n, h, w, c, threads, kernel, mixing}.gradient(g, x, gx, of_kernel,         \
                                                                                        of_mixing);                  \
    }                                                                                                                \
    extern "C" void NAME##_positive_pointwise(const T* x, const T* weight, T* y, long n, long h, long w, long inputs,\
                                              long outputs, long stride, long offset, long start, long total,        \
                                              long threads) {                                                        \
        PositivePointwise<T>{n, h, w, inputs, outputs, stride, offset, start, total, threads, weight}.forward(x, y); \
    }                                                                                                                \
    extern "C" void NAME##_positive_pointwise_gradient(const T* g, const T* x, const T* weight, T* gx, T* of_weight, \
                                                       long n, long h, long w, long inputs, long outputs,            \
                                                       long stride, long offset, long start, long total,             \
                                                       long threads) {                                               \
        PositivePointwise<T>{n, h, w, inputs, outputs, stride, offset, start, total, threads, weight}                \
            .gradient(g, x, gx, of_weight);                                                                          \
    }                                                                                                                \
    extern "C" void NAME##_batch_norm(const T* x, const T* gain, const T* bias, T* y, T* mean, T* scale, T* running, \
                                      T* var, long n, long rows, long channels, long threads, double momentum,       \
                                      double epsilon) {                                                              \
        BatchNorm<T>{n, rows, channels, threads}.forward(x, gain, bias, y,                                           \
                                                         {mean, scale, running, var, momentum, epsilon});            \
    }                                                                                                                \
    extern "C" void NAME##_batch_norm_gradient(const T* g, const T* x, const T* gain, const T* mean, const T* scale, \
                                               T* gx, T* of_gain, T* of_bias, long n, long rows, long channels,      \
                                               long threads) {                                                       \
        BatchNorm<T>{n, rows, channels, threads}.gradient(g, x, gain, mean, scale, gx, of_gain, of_bias);            \
    }                                                                                                                \
    extern "C" void NAME##_highway(const T* weights, const T* states, T* gated, T* excess, T* node, long j, long n,  \
                                   long h, long threads, long keep_candidates) {                                     \
        Highway<T>{j, n, h, threads, weights}.forward(states, gated, excess, node, keep_candidates);                 \
    }                                                                                                                \
    extern "C" void NAME##_highway_gradient(const T* g, const T* gated, const T* excess, T* of_kept, T* of_gated,    \
                                            long j, long n, long h, long threads) {                                  \
        Highway<T>{j, n, h, threads, nullptr}.gradient(g, gated, excess, of_kept, of_gated);                         \
    }                                                                                                                \
    extern "C" void NAME##_mixture_gradient(const T* weights, const T* g, const T* states, const T* gated,           \
                                            const T* excess, T* of_kept, T* of_gated, T* of_weights, long j, long n, \
                                            long h, long threads) {                                                  \
        Highway<T>{j, n, h, threads, weights}.mixture_gradient(g, states, gated, excess, of_kept, of_gated,          \
                                                               of_weights);                                          \
    }                                                                                                                \
    EXPORT_GROUP(NAME, T)                                                                                            \
    EXPORT_GROUP(NAME##_dual, Dual<T>)
extern "C" void* take_memory(size_t* size) { return Store::of_process().take(*size); }
extern "C" void give_memory(void* memory, size_t size) { Store::of_process().give(memory, size); }
EXPORT(float32, float)
EXPORT(float64, double)
