// SPDX-License-Identifier: Apache-2.0
//
// Span<T>: a borrowed, contiguous run of T, as C++20's std::span. The owner must outlive it.
#ifndef DAMO_BASE_SPAN_H_
#define DAMO_BASE_SPAN_H_

#include <cassert>
#include <cstddef>
#include <type_traits>
#include <vector>

namespace damo {

template <typename T>
class Span {
 public:
  using value_type = std::remove_cv_t<T>;

  constexpr Span() = default;
  constexpr Span(T* data, size_t size) : data_(data), size_(size) {}
  template <size_t N>
  constexpr Span(T (&array)[N]) : data_(array), size_(N) {}  // NOLINT: implicit, as std::span
  // From any container with data() and size() whose elements convert without a copy (vector, array, Span).
  template <typename Container, typename = std::enable_if_t<
                                    std::is_convertible_v<decltype(std::declval<Container&>().data()), T*>>>
  constexpr Span(Container&& container)  // NOLINT: implicit, as std::span
      : data_(container.data()), size_(container.size()) {}

  constexpr T* data() const { return data_; }
  constexpr size_t size() const { return size_; }
  constexpr bool empty() const { return size_ == 0; }
  constexpr T* begin() const { return data_; }
  constexpr T* end() const { return data_ + size_; }

  constexpr T& operator[](size_t i) const {
    assert(i < size_);
    return data_[i];
  }
  // The run [offset, offset + count); requires that it lies inside this span.
  constexpr Span subspan(size_t offset, size_t count) const {
    assert(offset + count <= size_);
    return Span(data_ + offset, count);
  }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace damo

#endif  // DAMO_BASE_SPAN_H_
