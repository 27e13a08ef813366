// SPDX-License-Identifier: Apache-2.0
//
// ConvertStore: a store anew, with another dim or optimizer for one of its groups.
#ifndef DAMO_DUMP_CONVERT_STORE_H_
#define DAMO_DUMP_CONVERT_STORE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "damo/base/status.h"
#include "damo/config/parameters.h"
#include "damo/table/store.h"

namespace damo {

// What is to be different. nullopt: as it is.
struct GroupConversion {
  int64_t group = 0;
  std::optional<int64_t> dim;
  std::optional<Parameters> optimizer;
};

// Called now and then with the rows copied so far; a failure that it returns ends the work and is returned.
using ConvertProgress = std::function<Status(int64_t num_rows)>;

// Copies `store` as of one moment into `directory`, which must not exist and not lie inside the store's:
// aside, and renamed when it is whole and survives loss of power. Steps, settings and all else that the
// manifest holds come along, and rows of other groups as they are, byte by byte. Those of the group keep key,
// time of update and the weights there is room for; further ones are initial; slots are fresh, and so
// update_num is 1: bias corrections that counted on would take moments of 0 for ones of many steps. Memory
// use does not depend on the number of rows. Returns that number.
//
// A read-only store must have nothing in a redo log: only its writer can bring all of that into the manifest.
StatusOr<int64_t> ConvertStore(const Store& store, const std::string& directory,
                               const GroupConversion& conversion, const ConvertProgress& progress = nullptr);

}  // namespace damo

#endif  // DAMO_DUMP_CONVERT_STORE_H_
