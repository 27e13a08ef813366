// SPDX-License-Identifier: Apache-2.0
//
// Lookups and apply calls of bags of keys. Rows are looked up a piece at a time, into memory that stays in
// the processor's cache, and are summed from there; each bag is one thread's from its first key to its last,
// so that neither pieces nor threads change a bit.
#include <algorithm>
#include <functional>
#include <memory>
#include <optional>

#include "damo/base/float_environment.h"
#include "damo/table/embedding_table.h"

namespace damo {
namespace {

// Floats in a piece, and bounds of the keys it has: few enough for the cache, enough to share reads.
constexpr int64_t kPieceFloats = 1 << 16;
constexpr int64_t kMinPieceKeys = 64;
constexpr int64_t kMaxPieceKeys = 2048;

int64_t KeysPerPiece(int64_t dim) { return std::clamp(kPieceFloats / dim, kMinPieceKeys, kMaxPieceKeys); }

// Runs block(begin, end) for ranges of bags that together are all of them, each with some `keys_per_part`
// keys or more, perhaps at the same time on several threads.
Status ForEachRangeOfBags(const Bags& bags, int64_t keys_per_part, Executor& executor,
                          const std::function<Status(int64_t begin, int64_t end)>& block) {
  const int64_t num_keys = bags.splits[bags.size()];
  const int64_t num_parts = std::max<int64_t>(1, (num_keys + keys_per_part - 1) / keys_per_part);
  // A bag belongs to the part in which it begins.
  const auto first_bag = [&](int64_t part) -> int64_t {
    if (part == num_parts) return bags.size();
    const int64_t* const first = bags.splits.begin();
    return std::lower_bound(first, first + bags.size(), part * keys_per_part) - first;
  };
  return ParallelForStatus(executor, num_parts, 1, [&](int64_t begin, int64_t end) -> Status {
    const ScopedFloatEnvironment float_environment;
    return block(first_bag(begin), first_bag(end));
  });
}

// Sums the rows of bags, whose keys come in order.
class BagSums {
 public:
  BagSums(Span<const uint64_t> keys, const Bags& bags, std::optional<uint64_t> padding_key, int64_t first_bag,
          Span<float> combined)
      : keys_(keys),
        bags_(bags),
        padding_key_(padding_key),
        combined_(combined),
        dim_(bags.size() == 0 ? 0 : combined.size() / bags.size()),
        bag_(first_bag) {}

  // Adds the row of the key at `position`, which finishes the bags before its own.
  void Add(int64_t position, const float* row) {
    while (bags_.splits[bag_ + 1] <= position) Finish();
    if (keys_[position] == padding_key_) return;
    const float weight = bags_.weights.empty() ? 1.0f : bags_.weights[position];
    AddRow(row, weight, /*first=*/!begun_, sum());
    begun_ = true;
  }
  // Finishes the bags before `end`.
  void FinishBefore(int64_t end) {
    while (bag_ < end) Finish();
  }

 private:
  Span<float> sum() const { return combined_.subspan(bag_ * dim_, dim_); }
  void Finish() {
    FinishSum(begun_ ? bags_.bag(bag_, keys_, padding_key_).Denominator() : 0, sum());
    begun_ = false;
    ++bag_;
  }

  const Span<const uint64_t> keys_;
  const Bags& bags_;
  const std::optional<uint64_t> padding_key_;
  const Span<float> combined_;
  const size_t dim_;
  int64_t bag_;         // the one that is being summed
  bool begun_ = false;  // whether it has had a row
};

}  // namespace

// Calls visit(position, row) for the keys at [begin, end), in order. Looks up nothing at least, so that a
// closed store is noticed.
template <typename Visit>
Status EmbeddingTable::VisitRows(Span<const uint64_t> keys, int64_t begin, int64_t end,
                                 const LookupOptions& options, const Visit& visit) const {
  const int64_t piece_keys = std::min(KeysPerPiece(dim_), end - begin);
  const std::unique_ptr<float[]> rows(new float[piece_keys * dim_]);
  int64_t piece = begin;
  do {
    const int64_t num_keys = std::min(piece_keys, end - piece);
    DAMO_RETURN_IF_ERROR(LookupRows(keys.subspan(piece, num_keys), options, *Executor::Inline(),
                                    {rows.get(), static_cast<size_t>(num_keys * dim_)}));
    for (int64_t i = 0; i < num_keys; ++i) visit(piece + i, rows.get() + i * dim_);
    piece += num_keys;
  } while (piece < end);
  return Status();
}

Status EmbeddingTable::CheckBagSizes(Span<const uint64_t> keys, const Bags& bags, size_t num_floats,
                                     const char* name) const {
  DAMO_RETURN_IF_ERROR(CheckBags(bags, keys.size()));
  const size_t expected = static_cast<size_t>(bags.size()) * dim_;
  if (num_floats == expected) return Status();
  return InvalidArgument("`", name, "` must hold bags.size() * dim = ", bags.size(), " * ", dim_, " = ",
                         expected, " floats. Received: ", num_floats);
}

Status EmbeddingTable::LookupCombined(Span<const uint64_t> keys, const Bags& bags,
                                      const LookupOptions& options, Executor& executor,
                                      Span<float> combined) const {
  const CallTimes::Call call(lookup_times_);
  const Status checked = CheckBagSizes(keys, bags, combined.size(), "combined");
  if (!checked.ok()) return checked.WithContext(Context("lookup in"));
  DAMO_RETURN_IF_ERROR(PrepareToRead(keys, "lookup in"));
  const auto combine = [&](int64_t begin, int64_t end) -> Status {
    BagSums sums(keys, bags, options.padding_key, begin, combined);
    DAMO_RETURN_IF_ERROR(VisitRows(keys, bags.splits[begin], bags.splits[end], options,
                                   [&](int64_t position, const float* row) { sums.Add(position, row); }));
    sums.FinishBefore(end);
    return Status();
  };
  return ForEachRangeOfBags(bags, KeysPerPiece(dim_), executor, combine);
}

StatusOr<ApplyResult> EmbeddingTable::ApplyCombinedGradients(Span<const uint64_t> keys, const Bags& bags,
                                                             Span<const float> gradients,
                                                             const ApplyOptions& options,
                                                             Executor& executor) {
  Status checked = CheckNumKeys(keys.size());
  if (checked.ok()) checked = CheckBagSizes(keys, bags, gradients.size(), "gradients");
  std::unique_ptr<GradientRows::Source[]> sources;
  if (checked.ok()) {
    sources = std::make_unique<GradientRows::Source[]>(keys.size());
    checked = ForEachRangeOfBags(bags, kMaxPieceKeys, executor, [&](int64_t begin, int64_t end) -> Status {
      for (int64_t b = begin; b < end; ++b) {
        const Bag bag = bags.bag(b, keys, options.padding_key);
        const float denominator = bag.Denominator();
        GradientRows::Source* const of_bag = sources.get() + bags.splits[b];
        for (size_t k = 0; k < bag.keys.size(); ++k) {
          of_bag[k] = {static_cast<uint32_t>(b), GradientFactor(bag, k, denominator)};
        }
      }
      return Status();
    });
  }
  return ApplyRows(keys, checked, gradients, sources.get(), options, executor);
}

Status EmbeddingTable::ComputeWeightsGradient(Span<const uint64_t> keys, const Bags& bags,
                                              Span<const float> gradients, const LookupOptions& options,
                                              Executor& executor, Span<float> weights_gradient) const {
  const CallTimes::Call call(lookup_times_);
  Status checked = CheckBagSizes(keys, bags, gradients.size(), "gradients");
  if (checked.ok() && weights_gradient.size() != keys.size()) {
    checked = InvalidArgument("`weights_gradient` must hold one float for each of ", keys.size(),
                              " keys. Received: ", weights_gradient.size());
  }
  if (!checked.ok()) return checked.WithContext(Context("compute the gradient of weights in"));
  DAMO_RETURN_IF_ERROR(PrepareToRead(keys, "lookup in"));
  const auto compute = [&](int64_t begin, int64_t end) -> Status {
    int64_t b = begin;
    const auto multiply = [&](int64_t position, const float* row) {
      while (bags.splits[b + 1] <= position) ++b;
      weights_gradient[position] = GradientDotRow(gradients.subspan(b * dim_, dim_), row);
    };
    DAMO_RETURN_IF_ERROR(VisitRows(keys, bags.splits[begin], bags.splits[end], options, multiply));
    for (b = begin; b < end; ++b) {
      const Bag bag = bags.bag(b, keys, options.padding_key);
      FinishWeightsGradient(bag, weights_gradient.subspan(bags.splits[b], bag.keys.size()));
    }
    return Status();
  };
  return ForEachRangeOfBags(bags, KeysPerPiece(dim_), executor, compute);
}

}  // namespace damo
