// SPDX-License-Identifier: Apache-2.0
#include "damo/admission/counting_filter.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace damo {
namespace {

constexpr double kLn2 = 0.6931471805599453;
// A probe takes this many bits of a word of the key's random bits; a word is good for four.
constexpr int kProbeBits = 13;
constexpr int kProbesPerWord = 4;
static_assert(CountingFilter::kCountersPerPage == int64_t{1} << kProbeBits);

// The finalizer of MurmurHash3 (Appleby 2011), a bijection whose every bit depends on every bit of `word`.
// What it gives is on disk: never change it.
uint64_t Mix(uint64_t word) {
  word = (word ^ (word >> 33)) * 0xff51afd7ed558ccdULL;
  word = (word ^ (word >> 33)) * 0xc4ceb9fe1a85ec53ULL;
  return word ^ (word >> 33);
}

// 2^64 divided by the golden ratio: the step of Weyl's sequence, as in SplitMix64. On disk, too.
constexpr uint64_t kStep = 0x9e3779b97f4a7c15ULL;

uint64_t HashOf(uint64_t key) { return Mix(key + kStep); }

int64_t NumPages(const FilterOptions& options) {
  const double counters = -static_cast<double>(options.capacity) * std::log(options.fpr) / (kLn2 * kLn2);
  return static_cast<int64_t>(std::ceil(counters / static_cast<double>(CountingFilter::kCountersPerPage)));
}

}  // namespace

// The places of a key's counters within its page, one after another.
class CountingFilter::Probes {
 public:
  explicit Probes(uint64_t hash) : hash_(hash) {}

  uint32_t Next() {
    if (left_ == 0) {
      hash_ += kStep;
      word_ = Mix(hash_);
      left_ = kProbesPerWord;
    }
    const auto place = static_cast<uint32_t>(word_ & (kCountersPerPage - 1));
    word_ >>= kProbeBits;
    --left_;
    return place;
  }

 private:
  uint64_t hash_;
  uint64_t word_ = 0;
  int left_ = 0;
};

CountingFilter::CountingFilter(const FilterOptions& options)
    : options_(options),
      num_probes_(std::max(1, static_cast<int>(std::lround(-std::log2(options.fpr))))),
      pages_(NumPages(options)) {}

int64_t CountingFilter::CountSet(std::string_view page) {
  int64_t num_set = 0;
  for (const char byte : page) {
    num_set += ((byte & 0x0f) != 0 ? 1 : 0) + ((byte & 0xf0) != 0 ? 1 : 0);
  }
  return num_set;
}

int64_t CountingFilter::FullBytes(const FilterOptions& options) {
  return NumPages(options) * static_cast<int64_t>(kPageBytes);
}

double CountingFilter::fill() const {
  return static_cast<double>(num_set_) / static_cast<double>(num_counters());
}

// hash * pages / 2^64 without a division: the page is a matter of the hash's high bits.
uint64_t CountingFilter::PageOfHash(uint64_t hash) const {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(hash) * pages_.size() >> 64);
}

int64_t CountingFilter::PageOf(uint64_t key) const { return static_cast<int64_t>(PageOfHash(HashOf(key))); }

CountingFilter::Page& CountingFilter::ReservePage(uint64_t i) {
  std::unique_ptr<Page>& page = pages_[i];
  if (page == nullptr) {
    page = std::make_unique<Page>();
    page->fill(0);
    ++used_pages_;
  }
  return *page;
}

void CountingFilter::Reserve(uint64_t key) { ReservePage(PageOfHash(HashOf(key))); }

void CountingFilter::Add(uint64_t key, uint64_t occurrences) {
  if (occurrences == 0) return;
  const uint64_t hash = HashOf(key);
  Page& page = ReservePage(PageOfHash(hash));
  const uint64_t added = std::min<uint64_t>(occurrences, kMaxFilterCount);
  Probes probes(hash);
  for (int i = 0; i < num_probes_; ++i) {
    const uint32_t place = probes.Next();
    uint8_t& byte = page[place / 2];
    const int shift = place % 2 == 0 ? 0 : 4;
    const auto count = static_cast<uint64_t>(byte >> shift & 0x0f);
    num_set_ += count == 0 ? 1 : 0;
    const uint64_t next = std::min<uint64_t>(count + added, kMaxFilterCount);
    byte = static_cast<uint8_t>((byte & (0xf0 >> shift)) | next << shift);
  }
}

int64_t CountingFilter::Count(uint64_t key) const {
  const uint64_t hash = HashOf(key);
  const Page* const page = pages_[PageOfHash(hash)].get();
  if (page == nullptr) return 0;
  Probes probes(hash);
  int64_t least = kMaxFilterCount;
  for (int i = 0; i < num_probes_ && least > 0; ++i) {
    const uint32_t place = probes.Next();
    least = std::min<int64_t>(least, (*page)[place / 2] >> (place % 2 == 0 ? 0 : 4) & 0x0f);
  }
  return least;
}

std::string_view CountingFilter::page(int64_t i) const {
  const Page* const page = pages_[i].get();
  if (page == nullptr) return {};
  return {reinterpret_cast<const char*>(page->data()), page->size()};
}

void CountingFilter::SetPage(int64_t i, std::string_view bytes) {
  std::unique_ptr<Page>& page = pages_[i];
  if (page == nullptr) {
    page = std::make_unique<Page>();
    ++used_pages_;
  } else {
    num_set_ -= CountSet(this->page(i));
  }
  std::memcpy(page->data(), bytes.data(), kPageBytes);
  num_set_ += CountSet(bytes);
}

}  // namespace damo
