// SPDX-License-Identifier: Apache-2.0
//
// FullFilterWarning: tells once that the admission filter of a group is too full to do its work.
#ifndef DAMO_TABLE_FULL_FILTER_WARNING_H_
#define DAMO_TABLE_FULL_FILTER_WARNING_H_

#include "damo/config/group_config.h"
#include "damo/table/store_session.h"

namespace damo {

// Of one table, whose apply mutex guards it.
class FullFilterWarning {
 public:
  // `fill`: see CountingFilter::fill(); of a filter of the group that `config` is of. Never fails: the call
  // that has filled it is a fact.
  void Note(double fill, const GroupConfig& config, const StoreSession& session);

 private:
  bool told_ = false;
};

}  // namespace damo

#endif  // DAMO_TABLE_FULL_FILTER_WARNING_H_
