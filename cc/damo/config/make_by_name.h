// SPDX-License-Identifier: Apache-2.0
//
// What the factories of optimizers, initializers and schedules have in common: a list of names and makers.
#ifndef DAMO_CONFIG_MAKE_BY_NAME_H_
#define DAMO_CONFIG_MAKE_BY_NAME_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "damo/base/span.h"
#include "damo/base/status.h"
#include "damo/config/parameters.h"

namespace damo {

template <typename T>
struct NamedMaker {
  std::string_view name;
  StatusOr<std::unique_ptr<const T>> (*make)(const Parameters& parameters);
};

// The T that parameters "name" names. An unknown name fails and lists `makers`, in their order. `kind`
// ("optimizer") is for messages.
template <typename T>
StatusOr<std::unique_ptr<const T>> MakeByName(std::string_view kind, Span<const NamedMaker<T>> makers,
                                              const Parameters& parameters) {
  DAMO_ASSIGN_OR_RETURN(const std::string name, parameters.Name(kind));
  std::vector<std::string> known;
  for (const NamedMaker<T>& maker : makers) {
    if (maker.name == name) return maker.make(parameters);
    known.emplace_back(maker.name);
  }
  return InvalidArgument("unknown ", kind, " '", name, "'; known: ", QuotedList(known));
}

}  // namespace damo

#endif  // DAMO_CONFIG_MAKE_BY_NAME_H_
