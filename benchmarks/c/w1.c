/* W1: XOR by 16 tanh units, all runs one after another on one thread. The points fill the lanes of registers; the net's
   16 units are the lanes of its parameters. A whole run stays in the first-level cache. */
#include "vectors.h"

#ifndef NUM_POINTS
#define NUM_POINTS 200
#endif
enum { HIDDEN = 16, ROWS = (NUM_POINTS + 15) / 16 };

typedef struct {
  v16 across, up, bias, out; /* lane i: unit i's weights of the two inputs, its bias, its weight in the logit */
  float out_bias;
} Params;

static v16 across[ROWS], up[ROWS], labels[ROWS], weights[ROWS], units[HIDDEN][ROWS], logits[ROWS], slopes[ROWS];

static void forward(const Params *params) {
  for (int row = 0; row < ROWS; row++) logits[row] = splat(params->out_bias);
  for (int unit = 0; unit < HIDDEN; unit++) {
    v16 a = splat(params->across[unit]), u = splat(params->up[unit]), bias = splat(params->bias[unit]);
    v16 out = splat(params->out[unit]);
#pragma GCC unroll 4
    for (int row = 0; row < ROWS; row++) {
      v16 value = tanh16(across[row] * a + (up[row] * u + bias));
      units[unit][row] = value;
      logits[row] += out * value;
    }
  }
}

static float loss(const Params *params) {
  forward(params);
  double total = 0;
  for (int i = 0; i < NUM_POINTS; i++) {
    float logit = logits[i / 16][i % 16];
    total += fmaxf(logit, 0) - logit * labels[i / 16][i % 16] + log1pf(expf(-fabsf(logit)));
  }
  return total / NUM_POINTS;
}

static Params gradient(const Params *params) {
  forward(params);
  v16 total = {};
  for (int row = 0; row < ROWS; row++) {
    slopes[row] = (tanh16(logits[row] * 0.5f) * 0.5f + 0.5f - labels[row]) * weights[row];
    total += slopes[row];
  }
  v16 of_across[HIDDEN], of_up[HIDDEN], of_bias[HIDDEN], of_out[HIDDEN];
  for (int unit = 0; unit < HIDDEN; unit++) {
    v16 a = {}, u = {}, bias = {}, out = {};
#pragma GCC unroll 13
    for (int row = 0; row < ROWS; row++) {
      v16 product = slopes[row] * units[unit][row];
      v16 back = slopes[row] - product * units[unit][row];
      out += product;
      bias += back;
      a += back * across[row];
      u += back * up[row];
    }
    of_across[unit] = a, of_up[unit] = u, of_bias[unit] = bias, of_out[unit] = out;
  }
  float out_bias = 0;
  for (int lane = 0; lane < 16; lane++) out_bias += total[lane];
  v16 out = params->out;
  return (Params){sums(of_across) * out, sums(of_up) * out, sums(of_bias) * out, sums(of_out), out_bias};
}

static float trained(Params params, int num_steps, float learning_rate, float momentum) {
  Params velocity = {};
  for (int step = 0; step < num_steps; step++) {
    Params slope = gradient(&params);
    velocity.across = velocity.across * momentum + slope.across;
    velocity.up = velocity.up * momentum + slope.up;
    velocity.bias = velocity.bias * momentum + slope.bias;
    velocity.out = velocity.out * momentum + slope.out;
    velocity.out_bias = velocity.out_bias * momentum + slope.out_bias;
    params.across -= velocity.across * learning_rate;
    params.up -= velocity.up * learning_rate;
    params.bias -= velocity.bias * learning_rate;
    params.out -= velocity.out * learning_rate;
    params.out_bias -= velocity.out_bias * learning_rate;
  }
  return loss(&params);
}

/* inputs [NUM_POINTS, 2], true_labels [NUM_POINTS], hyperparameters [num_trials, 2], kernels and biases [num_seeds, ...]
   as rows in, columns out; final [num_seeds, num_trials]. */
void train(int num_seeds, int num_trials, int num_steps, const float *inputs, const float *true_labels,
           const float *hyperparameters, const float *kernel_0, const float *bias_0, const float *kernel_1,
           const float *bias_1, float *final) {
  for (int i = 0; i < NUM_POINTS; i++) {
    across[i / 16][i % 16] = inputs[2 * i];
    up[i / 16][i % 16] = inputs[2 * i + 1];
    labels[i / 16][i % 16] = true_labels[i];
    weights[i / 16][i % 16] = 1.0f / NUM_POINTS; /* 0 for the points that fill the last register */
  }
  for (int seed = 0; seed < num_seeds; seed++) {
    const float *kernel = kernel_0 + 2 * HIDDEN * seed;
    Params start = {load(kernel), load(kernel + HIDDEN), load(bias_0 + HIDDEN * seed), load(kernel_1 + HIDDEN * seed),
                    bias_1[seed]};
    for (int trial = 0; trial < num_trials; trial++) {
      const float *chosen = hyperparameters + 2 * trial;
      final[seed * num_trials + trial] = trained(start, num_steps, chosen[0], chosen[1]);
    }
  }
}
