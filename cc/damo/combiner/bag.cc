// SPDX-License-Identifier: Apache-2.0
#include "damo/combiner/bag.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "damo/base/float_math.h"

namespace damo {
float Bag::Denominator() const {
  if (combiner == Combiner::kSum) return 1;
  double sum = 0;
  for (size_t k = 0; k < keys.size(); ++k) {
    if (!Counts(k)) continue;
    const double wide = weight(k);
    sum += combiner == Combiner::kMean ? wide : wide * wide;
  }
  return static_cast<float>(combiner == Combiner::kMean ? sum : std::sqrt(sum));
}

Status CheckBags(const Bags& bags, size_t num_keys) {
  if (bags.splits.size() != bags.combiners.size() + 1) {
    return InvalidArgument("`splits` must hold one more than there are bags, ", bags.combiners.size(),
                           ". Received: ", bags.splits.size());
  }
  if (bags.combiners.size() > std::numeric_limits<uint32_t>::max()) {
    return InvalidArgument("`splits` must be of fewer than 2^32 bags. Received: ", bags.combiners.size());
  }
  if (bags.splits[0] != 0 || static_cast<uint64_t>(bags.splits[bags.size()]) != num_keys) {
    return InvalidArgument("`splits` must begin at 0 and end at the number of keys, ", num_keys,
                           ". Received: from ", bags.splits[0], " to ", bags.splits[bags.size()]);
  }
  for (int64_t b = 0; b < bags.size(); ++b) {
    if (bags.splits[b] <= bags.splits[b + 1]) continue;
    return InvalidArgument("`splits` must never fall. Received: ", bags.splits[b], ", then ",
                           bags.splits[b + 1]);
  }
  if (!bags.weights.empty() && bags.weights.size() != num_keys) {
    return InvalidArgument("`weights` must hold one weight for each of ", num_keys,
                           " keys. Received: ", bags.weights.size());
  }
  return Status();
}

void AddRow(const float* row, float weight, bool first, Span<float> sum) {
  if (first) {
    CopyScaled(row, weight, sum.data(), sum.size());
  } else {
    AddScaled(row, weight, sum.data(), sum.size());
  }
}

void FinishSum(float denominator, Span<float> sum) {
  if (denominator == 0) {
    std::fill(sum.begin(), sum.end(), 0.0f);
  } else if (denominator != 1) {
    DivideBy(denominator, sum.data(), sum.size());
  }
}

float GradientFactor(const Bag& bag, size_t k, float denominator) {
  return denominator == 0 ? 0 : bag.weight(k) / denominator;
}

float GradientDotRow(Span<const float> gradient, const float* row) {
  double sum = 0;
  for (size_t j = 0; j < gradient.size(); ++j) sum += static_cast<double>(gradient[j]) * row[j];
  return static_cast<float>(sum);
}

void FinishWeightsGradient(const Bag& bag, Span<float> products) {
  const double denominator = bag.Denominator();
  double combined = 0;  // g.combined
  for (size_t k = 0; k < bag.keys.size(); ++k) {
    if (bag.Counts(k)) {
      combined += static_cast<double>(bag.weight(k)) * products[k];
    } else {
      products[k] = 0;
    }
  }
  if (bag.combiner == Combiner::kSum) return;
  combined /= denominator;
  for (size_t k = 0; k < bag.keys.size(); ++k) {
    if (!bag.Counts(k)) continue;
    const double share = bag.combiner == Combiner::kMean ? 1 : bag.weight(k) / denominator;
    products[k] = denominator == 0 ? 0 : static_cast<float>((products[k] - combined * share) / denominator);
  }
}

}  // namespace damo
