// SPDX-License-Identifier: Apache-2.0
//
// Initializer: the weights a row has before its first update, a pure function of (seed, group, key). One
// algorithm per file pair; initializer_factory.h makes them by name.
#ifndef DAMO_INITIALIZER_INITIALIZER_H_
#define DAMO_INITIALIZER_INITIALIZER_H_

#include <utility>

#include "damo/base/random.h"
#include "damo/base/span.h"
#include "damo/config/parameters.h"

namespace damo {

// Immutable; thread-safe.
class Initializer {
 public:
  // `parameters` are normalized: every entry present.
  explicit Initializer(Parameters parameters) : parameters_(std::move(parameters)) {}
  virtual ~Initializer() = default;

  const Parameters& parameters() const { return parameters_; }

  // Fills `weights` (the whole row: its size is the group's dim) from the row's random numbers.
  virtual void Fill(const RowRandom& random, Span<float> weights) const = 0;

 private:
  const Parameters parameters_;
};

}  // namespace damo

#endif  // DAMO_INITIALIZER_INITIALIZER_H_
