// Numbers, vectors of them, and both with tangents.
//
// Code that is a template of T computes on numbers and, with T = Dual<float> or Dual<double>, their tangents: what comes
// out is the derivative along one direction of what comes out of float or double. Where memory holds vectors (maps, and
// all arrays of channels), a vector of values is followed by that of their tangents; elsewhere each value by its own.
#pragma once

#include <cmath>
#include <type_traits>
#include <utility>

template <typename T>
using Vector __attribute__((vector_size(64), aligned(sizeof(T)))) = T;

// A value and its derivative along one direction.
template <typename T>
struct Dual {
    T value, tangent;
    Dual(T v = 0, T t = 0) : value(v), tangent(t) {}
    template <typename Other>
    explicit Dual(const Dual<Other>& other) : value(other.value), tangent(other.tangent) {}

    friend Dual operator-(const Dual& a) { return {-a.value, -a.tangent}; }
    friend Dual operator+(const Dual& a, const Dual& b) { return {a.value + b.value, a.tangent + b.tangent}; }
    friend Dual operator-(const Dual& a, const Dual& b) { return {a.value - b.value, a.tangent - b.tangent}; }
    friend Dual operator*(const Dual& a, const Dual& b) {
        return {a.value * b.value, a.value * b.tangent + a.tangent * b.value};
    }
    friend Dual operator/(const Dual& a, const Dual& b) {
        const T ratio = a.value / b.value;
        return {ratio, (a.tangent - ratio * b.tangent) / b.value};
    }
    friend Dual sqrt(const Dual& a) {
        const T root = std::sqrt(a.value);
        return {root, a.tangent / (2 * root)};
    }
    Dual& operator+=(const Dual& b) { return *this = *this + b; }
};

template <typename T>
struct DualVector {
    Vector<T> value, tangent;

    Dual<T> operator[](long lane) const { return {value[lane], tangent[lane]}; }
    friend DualVector operator+(const DualVector& a, const DualVector& b) {
        return {a.value + b.value, a.tangent + b.tangent};
    }
    friend DualVector operator-(const DualVector& a, const DualVector& b) {
        return {a.value - b.value, a.tangent - b.tangent};
    }
    friend DualVector operator*(const DualVector& a, const DualVector& b) {
        return {a.value * b.value, a.value * b.tangent + a.tangent * b.value};
    }
    friend DualVector operator*(const DualVector& a, const Dual<T>& b) {
        return {a.value * b.value, a.value * b.tangent + a.tangent * b.value};
    }
    friend DualVector operator/(const DualVector& a, T b) { return {a.value / b, a.tangent / b}; }
    DualVector& operator+=(const DualVector& b) { return *this = *this + b; }
    // values alone
    friend auto operator<=(const DualVector& a, const DualVector& b) { return a.value <= b.value; }
    friend auto operator>(const DualVector& a, const DualVector& b) { return a.value > b.value; }
    friend auto operator==(const DualVector& a, const DualVector& b) { return a.value == b.value; }
    friend auto operator!=(const DualVector& a, const DualVector& b) { return a.value != b.value; }
};

// What T is made of: the vector of 64 bytes of values, sums of many, and a number without a tangent.
template <typename T>
struct Kind {
    using Lanes = Vector<T>;
    using Wide = double;
    using Plain = T;
    static constexpr long rows = 8;
};
template <typename T>
struct Kind<Dual<T>> {
    using Lanes = DualVector<T>;
    using Wide = Dual<double>;
    using Plain = T;
    static constexpr long rows = 4;
};
template <typename T>
struct Kind<const T> : Kind<T> {};
template <typename T>
using Lanes = typename Kind<T>::Lanes;
template <typename T>
using Wide = typename Kind<T>::Wide;
template <typename T>
using Plain = typename Kind<T>::Plain;
template <typename T>
constexpr long lanes = 64 / sizeof(Plain<T>);
template <typename T>
constexpr long kRows = Kind<T>::rows;  // pixels computed per load of weights, as many as registers hold

template <typename T>
const Lanes<T>& at(const T* p) { return *reinterpret_cast<const Lanes<T>*>(p); }
template <typename T>
Lanes<T>& at(T* p) { return *reinterpret_cast<Lanes<T>*>(p); }

// One number of the vector at `p`.
template <typename T>
inline T lane(const T* p, long l) { return p[l]; }
template <typename T>
inline Dual<T> lane(const Dual<T>* p, long l) {
    const T* values = reinterpret_cast<const T*>(p);
    return {values[l], values[l + lanes<T>]};
}
template <typename T, typename X>
inline void put_lane(T* p, long l, const X& x) { p[l] = T(x); }
template <typename T, typename X>
inline void put_lane(Dual<T>* p, long l, const X& x) {
    const Dual<T> given(x);
    T* values = reinterpret_cast<T*>(p);
    values[l] = given.value, values[l + lanes<T>] = given.tangent;
}

// One number of the vectors that begin at `p`.
template <typename T>
inline T get(const T* p, long i) { return lane(p + i / lanes<T> * lanes<T>, i % lanes<T>); }
template <typename T, typename X>
inline void put(T* p, long i, const X& x) { put_lane(p + i / lanes<T> * lanes<T>, i % lanes<T>, x); }

// sum += a b
template <typename V, typename A>
inline void accumulate(V& sum, const A& a, const V& b) { sum += a * b; }
template <typename T, typename A>
inline void accumulate(DualVector<T>& sum, const A& a, const DualVector<T>& b) {
    sum.value += a.value * b.value;
    sum.tangent += a.value * b.tangent;
    sum.tangent += a.tangent * b.value;
}

template <typename Mask, typename V>
inline V select(const Mask& mask, const V& yes, const V& no) { return mask ? yes : no; }
template <typename Mask, typename T>
inline DualVector<T> select(const Mask& mask, const DualVector<T>& yes, const DualVector<T>& no) {
    return {mask ? yes.value : no.value, mask ? yes.tangent : no.tangent};
}

// Calls visit(number) for 0 to N - 1, each a constant of the compiler's: a loop that is never one.
template <int N>
constexpr std::integral_constant<int, N> number{};
template <typename Visit, int... I>
inline __attribute__((always_inline)) void repeat(Visit visit, std::integer_sequence<int, I...>) {
    (visit(number<I>), ...);
}
template <int N, typename Visit>
inline __attribute__((always_inline)) void repeat(Visit visit) {
    repeat(visit, std::make_integer_sequence<int, N>{});
}
