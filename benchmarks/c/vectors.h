/* Sixteen floats at a time, one AVX-512 register where there are such; sums of sixteen registers at once. */
#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

typedef float v16 __attribute__((vector_size(64)));
typedef int32_t i16 __attribute__((vector_size(64)));

static inline v16 load(const float *from) {
  v16 loaded;
  memcpy(&loaded, from, sizeof loaded);
  return loaded;
}

static inline v16 splat(float value) { return value - (v16){}; }

/* Lanes of x where mask is -1, and 0 where it is 0. */
static inline v16 masked(i16 mask, v16 x) { return (v16)((i16)x & mask); }

#ifdef __AVX512F__
static inline v16 smaller(v16 a, v16 b) { return (v16)_mm512_min_ps((__m512)a, (__m512)b); }
static inline v16 larger(v16 a, v16 b) { return (v16)_mm512_max_ps((__m512)a, (__m512)b); }
#else
static inline v16 smaller(v16 a, v16 b) { return masked(a < b, a) + masked(a >= b, b); }
static inline v16 larger(v16 a, v16 b) { return masked(a > b, a) + masked(a <= b, b); }
#endif

static inline v16 evens(v16 a, v16 b) {
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}

static inline v16 odds(v16 a, v16 b) {
  return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

/* Lane i of the result is the sum of the lanes of rows[i]; rows are overwritten. */
static inline v16 sums(v16 rows[16]) {
  for (int count = 8; count; count /= 2)
    for (int i = 0; i < count; i++) rows[i] = evens(rows[2 * i], rows[2 * i + 1]) + odds(rows[2 * i], rows[2 * i + 1]);
  return rows[0];
}

/* As `sums`, with the largest lane of each row. */
static inline v16 maxima(v16 rows[16]) {
  for (int count = 8; count; count /= 2)
    for (int i = 0; i < count; i++)
      rows[i] = larger(evens(rows[2 * i], rows[2 * i + 1]), odds(rows[2 * i], rows[2 * i + 1]));
  return rows[0];
}

/* A rational function of degree 13 over 6, off by less than 5e-7; the coefficients are those of Eigen's ptanh_float. */
static inline v16 tanh16(v16 x) {
  x = larger(smaller(x, splat(7.90531110763549805f)), splat(-7.90531110763549805f));
  v16 square = x * x;
  v16 above = square * -2.76076847742355e-16f + 2.00018790482477e-13f;
  above = above * square + -8.60467152213735e-11f;
  above = above * square + 5.12229709037114e-08f;
  above = above * square + 1.48572235717979e-05f;
  above = above * square + 6.37261928875436e-04f;
  above = above * square + 4.89352455891786e-03f;
  v16 below = square * 1.19825839466702e-06f + 1.18534705686654e-04f;
  below = below * square + 2.26843463243900e-03f;
  below = below * square + 4.89352518554385e-03f;
  return x * above / below;
}

/* exp of x <= 0, off by less than 3e-7 of itself: 2^k times a Taylor polynomial on half an octave to either side. */
static inline v16 exp16(v16 x) {
  v16 scaled = larger(x, splat(-87.0f)) * 1.44269504f;
  i16 whole = __builtin_convertvector(scaled - 0.5f, i16); /* towards zero: the nearest integer, as scaled <= 0 */
  v16 r = (scaled - __builtin_convertvector(whole, v16)) * 0.69314718f;
  v16 power = r * (1.0f / 5040) + 1.0f / 720;
  power = power * r + 1.0f / 120;
  power = power * r + 1.0f / 24;
  power = power * r + 1.0f / 6;
  power = power * r + 0.5f;
  power = power * r + 1.0f;
  power = power * r + 1.0f;
  i16 exponent = (whole + 127) << 23;
  v16 two;
  memcpy(&two, &exponent, sizeof two);
  return power * two;
}
