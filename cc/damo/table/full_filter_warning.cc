// SPDX-License-Identifier: Apache-2.0
#include "damo/table/full_filter_warning.h"

#include "damo/base/catch_exceptions.h"
#include "damo/base/status.h"
#include "damo/base/warning.h"

namespace damo {

void FullFilterWarning::Note(double fill, const GroupConfig& config, const StoreSession& session) {
  constexpr double kFull = 0.7;  // at its capacity it is at 0.5
  // With a min_count of 1 every key passes, whatever the filter says.
  if (told_ || fill <= kFull || config.min_count < 2) return;
  told_ = true;
  const auto warn = [&] {
    Warn(StrCat(
        "group ", config.group, " of store '", session.settings().directory, "': its admission filter is at ",
        static_cast<int>(fill * 100), " %, with filter_capacity=", *config.filter_capacity,
        " ids it would be at 50 %: more and more new ids get a row before they have occurred min_count=",
        config.min_count,
        " times. Its size is fixed; load the rows into a store with a larger filter_capacity, or open this "
        "one with min_count=0, which counts nothing (docs/admission.md)"));
    return Status();
  };
  CatchExceptions(warn).IgnoreError();  // there may be no memory for the text
}

}  // namespace damo
