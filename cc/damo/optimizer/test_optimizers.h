// SPDX-License-Identifier: Apache-2.0
//
// What the tests of optimizers and of their row options have in common.
#ifndef DAMO_OPTIMIZER_TEST_OPTIMIZERS_H_
#define DAMO_OPTIMIZER_TEST_OPTIMIZERS_H_

#include <gtest/gtest.h>

#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "damo/optimizer/optimizer_factory.h"

namespace damo {

using Values = std::vector<float>;
using Entries = std::initializer_list<std::pair<const char*, double>>;

inline constexpr const char* kOptimizerNames[] = {"sgd", "adagrad", "adam", "adamw", "ftrl", "lion"};

inline Parameters With(std::string_view name, Entries entries) {
  Parameters parameters(name);
  for (const auto& [key, value] : entries) parameters.Insert(key, value);
  return parameters;
}

inline std::unique_ptr<const Optimizer> MakeOrFail(std::string_view name, Entries entries = {}) {
  auto optimizer = MakeOptimizer(With(name, entries));
  EXPECT_TRUE(optimizer.ok()) << optimizer.status().ToString();
  return std::move(*optimizer);
}

// Why an optimizer of `parameters` is refused.
inline std::string MessageFor(const Parameters& parameters) {
  const auto optimizer = MakeOptimizer(parameters);
  EXPECT_EQ(optimizer.status().code(), StatusCode::kInvalidArgument);
  return optimizer.status().message();
}

}  // namespace damo

#endif  // DAMO_OPTIMIZER_TEST_OPTIMIZERS_H_
