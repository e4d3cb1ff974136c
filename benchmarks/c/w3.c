/* W3: digits by 32 ReLUs on minibatches, all runs one after another on one thread. Units and classes are the lanes of
   registers; each product keeps a block of its result in registers while it sums. */
#include "vectors.h"

enum { PIXELS = 64, HALVES = 2, HIDDEN = 16 * HALVES, CLASSES = 10, BATCH = 64 };

typedef struct {
  v16 hidden[PIXELS][HALVES], hidden_bias[HALVES];
  v16 out[HIDDEN], out_bias; /* classes as lanes, the last six unused */
} Params;

static v16 units[BATCH][HALVES], outputs[BATCH], back[BATCH][HALVES];

/* The ReLUs' values and the logits of BLOCK examples. */
enum { BLOCK = 8 };
static void forward(const Params *params, const float *const pixels[BLOCK], v16 (*values)[HALVES], v16 *logits) {
  v16 sum[BLOCK][HALVES];
#pragma GCC unroll 8
  for (int i = 0; i < BLOCK; i++) sum[i][0] = params->hidden_bias[0], sum[i][1] = params->hidden_bias[1];
  for (int pixel = 0; pixel < PIXELS; pixel++) {
    v16 first = params->hidden[pixel][0], second = params->hidden[pixel][1];
#pragma GCC unroll 8
    for (int i = 0; i < BLOCK; i++) {
      v16 grey = splat(pixels[i][pixel]);
      sum[i][0] += grey * first;
      sum[i][1] += grey * second;
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < BLOCK; i++) {
    values[i][0] = larger(sum[i][0], (v16){});
    values[i][1] = larger(sum[i][1], (v16){});
  }
  v16 logit[BLOCK];
#pragma GCC unroll 8
  for (int i = 0; i < BLOCK; i++) logit[i] = params->out_bias;
  for (int unit = 0; unit < HIDDEN; unit++) {
    v16 weight = params->out[unit];
#pragma GCC unroll 8
    for (int i = 0; i < BLOCK; i++) logit[i] += weight * ((const float *)values[i])[unit];
  }
#pragma GCC unroll 8
  for (int i = 0; i < BLOCK; i++) logits[i] = logit[i];
}

static float loss(const Params *params, int num, const float *inputs, const int32_t *labels) {
  double total = 0;
  for (int start = 0; start < num; start += BLOCK) {
    const float *pixels[BLOCK];
    for (int i = 0; i < BLOCK; i++) pixels[i] = inputs + PIXELS * (start + i < num ? start + i : start);
    v16 values[BLOCK][HALVES], logits[BLOCK];
    forward(params, pixels, values, logits);
    for (int i = 0; i < BLOCK && start + i < num; i++) {
      float most = logits[i][0], sum = 0;
      for (int class = 1; class < CLASSES; class++) most = fmaxf(most, logits[i][class]);
      for (int class = 0; class < CLASSES; class++) sum += expf(logits[i][class] - most);
      total += most + logf(sum) - logits[i][labels[start + i]];
    }
  }
  return total / num;
}

/* Turns the logits in `outputs` into the mean loss's gradient by them. */
static void softmax(const int32_t *labels, const int32_t *indices) {
  const i16 used = (i16){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} < CLASSES;
  const v16 unused = masked(~used, splat(-1e30f));
  for (int start = 0; start < BATCH; start += 16) {
    v16 rows[16];
    for (int i = 0; i < 16; i++) rows[i] = outputs[start + i] + unused;
    v16 most = maxima(rows);
    for (int i = 0; i < 16; i++) rows[i] = outputs[start + i] = masked(used, exp16(outputs[start + i] - most[i]));
    v16 scale = 1.0f / BATCH / sums(rows);
    for (int i = 0; i < 16; i++) {
      outputs[start + i] *= scale[i];
      outputs[start + i][labels[indices[start + i]]] -= 1.0f / BATCH;
    }
  }
}

static inline void move(v16 *param, v16 *velocity, v16 slope, float learning_rate, float momentum) {
  *velocity = *velocity * momentum + slope;
  *param -= *velocity * learning_rate;
}

static void output_slopes(Params *slope) {
  for (int start = 0; start < HIDDEN; start += 16) {
    v16 sum[16] = {};
    for (int i = 0; i < BATCH; i++) {
      v16 output = outputs[i];
#pragma GCC unroll 16
      for (int unit = 0; unit < 16; unit++) sum[unit] += output * ((const float *)units[i])[start + unit];
    }
#pragma GCC unroll 16
    for (int unit = 0; unit < 16; unit++) slope->out[start + unit] = sum[unit];
  }
  slope->out_bias = (v16){};
  for (int i = 0; i < BATCH; i++) slope->out_bias += outputs[i];
}

static void backward(const Params *params, Params *slope) {
  v16 transposed[CLASSES][HALVES];
  for (int class = 0; class < CLASSES; class++)
    for (int unit = 0; unit < HIDDEN; unit++) transposed[class][unit / 16][unit % 16] = params->out[unit][class];
  slope->hidden_bias[0] = slope->hidden_bias[1] = (v16){};
  for (int start = 0; start < BATCH; start += BLOCK) {
    v16 sum[BLOCK][HALVES] = {};
    for (int class = 0; class < CLASSES; class++) {
      v16 first = transposed[class][0], second = transposed[class][1];
#pragma GCC unroll 8
      for (int i = 0; i < BLOCK; i++) {
        v16 output = splat(((const float *)&outputs[start + i])[class]);
        sum[i][0] += output * first;
        sum[i][1] += output * second;
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < BLOCK; i++)
#pragma GCC unroll 2
      for (int half = 0; half < HALVES; half++) {
        v16 value = masked(units[start + i][half] > 0, sum[i][half]);
        back[start + i][half] = value;
        slope->hidden_bias[half] += value;
      }
  }
}

/* The first kernel's gradient, eight pixels at a time, used as soon as it is there. */
static void move_hidden(Params *params, Params *velocity, const float *const *pixels, float learning_rate,
                        float momentum) {
  for (int start = 0; start < PIXELS; start += BLOCK) {
    v16 sum[BLOCK][HALVES] = {};
    for (int i = 0; i < BATCH; i++) {
      const float *greys = pixels[i] + start;
      v16 first = back[i][0], second = back[i][1];
#pragma GCC unroll 8
      for (int pixel = 0; pixel < BLOCK; pixel++) {
        v16 grey = splat(greys[pixel]);
        sum[pixel][0] += grey * first;
        sum[pixel][1] += grey * second;
      }
    }
#pragma GCC unroll 8
    for (int pixel = 0; pixel < BLOCK; pixel++)
#pragma GCC unroll 2
      for (int half = 0; half < HALVES; half++)
        move(&params->hidden[start + pixel][half], &velocity->hidden[start + pixel][half], sum[pixel][half],
             learning_rate, momentum);
  }
}

static void step(Params *params, Params *velocity, const float *inputs, const int32_t *labels, const int32_t *indices,
                 float learning_rate, float momentum) {
  const float *pixels[BATCH];
  for (int i = 0; i < BATCH; i++) pixels[i] = inputs + PIXELS * indices[i];
  for (int start = 0; start < BATCH; start += BLOCK)
    forward(params, pixels + start, units + start, outputs + start);
  softmax(labels, indices);
  Params slope;
  output_slopes(&slope);
  backward(params, &slope);
  move_hidden(params, velocity, pixels, learning_rate, momentum);
  for (int half = 0; half < HALVES; half++)
    move(&params->hidden_bias[half], &velocity->hidden_bias[half], slope.hidden_bias[half], learning_rate, momentum);
  for (int unit = 0; unit < HIDDEN; unit++)
    move(&params->out[unit], &velocity->out[unit], slope.out[unit], learning_rate, momentum);
  move(&params->out_bias, &velocity->out_bias, slope.out_bias, learning_rate, momentum);
}

static Params started(const float *kernel_0, const float *bias_0, const float *kernel_1, const float *bias_1) {
  Params params = {};
  memcpy(params.hidden, kernel_0, sizeof params.hidden);
  memcpy(params.hidden_bias, bias_0, sizeof params.hidden_bias);
  for (int unit = 0; unit < HIDDEN; unit++)
    for (int class = 0; class < CLASSES; class++) params.out[unit][class] = kernel_1[unit * CLASSES + class];
  for (int class = 0; class < CLASSES; class++) params.out_bias[class] = bias_1[class];
  return params;
}

/* inputs [num_examples, PIXELS], labels [num_examples], hyperparameters [num_trials, 2], kernels and biases
   [num_seeds, ...] as rows in, columns out; table [num_seeds, num_steps, BATCH]; final [num_seeds, num_trials]. */
void train(int num_seeds, int num_trials, int num_steps, const float *inputs, const int32_t *labels,
           const float *hyperparameters, const float *kernel_0, const float *bias_0, const float *kernel_1,
           const float *bias_1, float *final, const int32_t *table, int num_eval, const float *eval_inputs,
           const int32_t *eval_labels) {
  for (int seed = 0; seed < num_seeds; seed++)
    for (int trial = 0; trial < num_trials; trial++) {
      Params params = started(kernel_0 + PIXELS * HIDDEN * seed, bias_0 + HIDDEN * seed,
                              kernel_1 + HIDDEN * CLASSES * seed, bias_1 + CLASSES * seed);
      Params velocity = {};
      const float *chosen = hyperparameters + 2 * trial;
      for (int i = 0; i < num_steps; i++)
        step(&params, &velocity, inputs, labels, table + (int64_t)BATCH * (seed * num_steps + i), chosen[0], chosen[1]);
      final[seed * num_trials + trial] = loss(&params, num_eval, eval_inputs, eval_labels);
    }
}
