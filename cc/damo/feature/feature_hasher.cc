// SPDX-License-Identifier: Apache-2.0
#include "damo/feature/feature_hasher.h"

#define XXH_INLINE_ALL  // the library is its header: nothing to link, no names that others could capture
#include <xxhash.h>

#include <array>
#include <charconv>
#include <utility>

namespace damo {
namespace {

// Room for the longest: "-9223372036854775808", "18446744073709551615".
using DecimalBuffer = std::array<char, 20>;

template <typename Integer>
std::string_view Decimal(Integer value, DecimalBuffer& buffer) {
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), static_cast<size_t>(result.ptr - buffer.data())};
}

}  // namespace

FeatureHasher::FeatureHasher(std::string_view field, std::optional<FeaturePadding> padding)
    : seed_(XXH3_64bits(field.data(), field.size())), padding_(std::move(padding)) {}

uint64_t FeatureHasher::Key(std::string_view value) const {
  if (padding_ && value == padding_->value) return padding_->key;
  const uint64_t hash = XXH3_64bits_withSeed(value.data(), value.size(), seed_);
  return padding_ && hash == padding_->key ? hash + 1 : hash;
}

uint64_t FeatureHasher::Key(int64_t value) const {
  DecimalBuffer buffer;
  return Key(Decimal(value, buffer));
}

uint64_t FeatureHasher::Key(uint64_t value) const {
  DecimalBuffer buffer;
  return Key(Decimal(value, buffer));
}

}  // namespace damo
