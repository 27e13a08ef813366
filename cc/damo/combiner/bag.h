// SPDX-License-Identifier: Apache-2.0
//
// Bags of keys, and how the rows of one become one vector. With r_k and w_k the row and weight of the k-th
// key of a bag (1 without weights), in order, keys that are padding left out:
//
//   combined = sum_k(w_k * r_k) / D    with D = 1              sum
//                                           sum_k(w_k)         mean
//                                           sqrt(sum_k(w_k^2)) sqrtn
//
// as in tf.nn.embedding_lookup_sparse, whose results these are. A bag without keys, or whose D is 0, is
// zeros. With g the gradient of `combined`, that of r_k is g * (w_k / D), and that of w_k is
//
//   g.r_k                           sum
//   (g.r_k - g.combined) / D        mean
//   (g.r_k - g.combined * w_k / D) / D        sqrtn
//
// all of them 0 where D is 0. Products are added in float32, one key after another; D, and then gradients of
// weights, are computed in double and rounded once. NaN and infinities go their usual ways, but never those
// of padding.
#ifndef DAMO_COMBINER_BAG_H_
#define DAMO_COMBINER_BAG_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "damo/base/span.h"
#include "damo/base/status.h"

namespace damo {

enum class Combiner : uint8_t { kSum, kMean, kSqrtn };

// One bag.
struct Bag {
  Combiner combiner;
  Span<const uint64_t> keys;
  const float* weights;  // of each key; null: all are 1
  std::optional<uint64_t> padding_key;

  bool Counts(size_t k) const { return keys[k] != padding_key; }
  float weight(size_t k) const { return weights == nullptr ? 1.0f : weights[k]; }
  // D, see above.
  float Denominator() const;
};

// The bags of a call, which share out its keys.
struct Bags {
  Span<const int64_t> splits;      // bag b has the keys [splits[b], splits[b + 1])
  Span<const Combiner> combiners;  // of each bag
  Span<const float> weights;       // of each key; empty: all are 1

  int64_t size() const { return static_cast<int64_t>(combiners.size()); }
  Bag bag(int64_t b, Span<const uint64_t> keys, std::optional<uint64_t> padding_key) const {
    const auto begin = static_cast<size_t>(splits[b]);
    return {combiners[b], keys.subspan(begin, static_cast<size_t>(splits[b + 1]) - begin),
            weights.empty() ? nullptr : weights.data() + begin, padding_key};
  }
};

// InvalidArgument unless the bags are of `num_keys` keys: splits begin at 0, never fall and end at num_keys,
// there are combiners.size() + 1 of them and fewer than 2^32, and there are no weights or as many as keys.
Status CheckBags(const Bags& bags, size_t num_keys);

// Adds one key's weight * row to the sum of its bag, which the first one begins.
void AddRow(const float* row, float weight, bool first, Span<float> sum);

// What becomes of the sum: it is divided, or zeros where the denominator is 0.
void FinishSum(float denominator, Span<float> sum);

// What the gradient of a bag is multiplied by to give that of the k-th key's row.
float GradientFactor(const Bag& bag, size_t k, float denominator);

// g.r
float GradientDotRow(Span<const float> gradient, const float* row);

// Makes the gradients of a bag's weights out of each key's g.r_k, in place. Those of padding become 0.
void FinishWeightsGradient(const Bag& bag, Span<float> products);

}  // namespace damo

#endif  // DAMO_COMBINER_BAG_H_
