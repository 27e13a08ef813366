// SPDX-License-Identifier: Apache-2.0
//
// A counter-based random generator: the value at (seed, group, key, element) is computed from those four
// alone, with integer arithmetic, so it is the same on every machine and needs no state.
#ifndef DAMO_BASE_RANDOM_H_
#define DAMO_BASE_RANDOM_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace damo {

// Philox4x32 with 10 rounds (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3",
// SC 2011). Maps a 128-bit counter and a 64-bit key to 128 random bits.
std::array<uint32_t, 4> Philox4x32(const std::array<uint32_t, 4>& counter,
                                   const std::array<uint32_t, 2>& key);

// The random numbers that belong to one row. Immutable; thread-safe.
//
// Philox key: the seed, low word first. Counter words: low and high half of the row's key; the group in bits
// 0..7 with the attempt in bits 8..31; the index of a block of four elements. Element i of attempt a is word
// i % 4 of the output for block i / 4.
class RowRandom {
 public:
  RowRandom(uint64_t seed, uint8_t group, uint64_t key) : seed_(seed), key_(key), group_(group) {}

  // Four random words, for elements 4 * block .. 4 * block + 3. `attempt` (below 2^24) counts redraws.
  std::array<uint32_t, 4> Words(uint32_t block, uint32_t attempt = 0) const;

  // Calls visit(element, word) for elements 0 .. count - 1 in order, with their words of attempt 0.
  template <typename Visitor>
  void ForEachWord(size_t count, const Visitor& visit) const {
    for (size_t first = 0; first < count; first += 4) {
      const std::array<uint32_t, 4> words = Words(static_cast<uint32_t>(first / 4));
      for (size_t i = first; i < count && i < first + 4; ++i) visit(i, words[i - first]);
    }
  }

 private:
  uint64_t seed_;
  uint64_t key_;
  uint8_t group_;
};

// A random word as a double in [0, 1): word * 2^-32.
inline double ToUnitInterval(uint32_t word) { return word * 0x1p-32; }

// A random word as a double strictly inside (0, 1): (word + 0.5) * 2^-32.
inline double ToOpenUnitInterval(uint32_t word) { return (word + 0.5) * 0x1p-32; }

// The quantile function of the standard normal distribution, for p in (0, 1). Algorithm AS 241, PPND16
// (Wichura, Applied Statistics 37, 1988), relative error about 1e-16. Uses only + - * /, sqrt and exact
// scaling, its logarithm included, so the bits do not depend on the machine's mathematical library.
double NormalQuantile(double p);

}  // namespace damo

#endif  // DAMO_BASE_RANDOM_H_
