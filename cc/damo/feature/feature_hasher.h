// SPDX-License-Identifier: Apache-2.0
//
// FeatureHasher: the key of a feature. docs/feature_hash.md says the same for those who compute keys
// elsewhere. Rows are stored under these keys: no bit of them may ever change.
#ifndef DAMO_FEATURE_FEATURE_HASHER_H_
#define DAMO_FEATURE_FEATURE_HASHER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace damo {

// The value that stands for no feature, and its key, which no other value gets.
struct FeaturePadding {
  std::string value;
  uint64_t key = 0;
};

// Hashes the values of one field: XXH3-64 of the value's bytes, whose seed is XXH3-64 of the field's name
// with seed 0. An integer has the bytes of its decimal text, so that 7 and "7" are the same feature.
// Immutable; thread-safe.
class FeatureHasher {
 public:
  explicit FeatureHasher(std::string_view field, std::optional<FeaturePadding> padding = std::nullopt);

  // The key of the feature "field is value". With a padding, its value has its key; of any other value whose
  // hash is that key, the key is one more (modulo 2^64).
  uint64_t Key(std::string_view value) const;
  uint64_t Key(int64_t value) const;
  uint64_t Key(uint64_t value) const;

 private:
  const uint64_t seed_;
  const std::optional<FeaturePadding> padding_;
};

}  // namespace damo

#endif  // DAMO_FEATURE_FEATURE_HASHER_H_
