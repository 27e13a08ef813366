// SPDX-License-Identifier: Apache-2.0
//
// Makes schedules by name: exponential_decay, polynomial_decay, nature_exponential_decay, inverse_time_decay,
// cosine_decay, liner_cosine_decay (also accepted as linear_cosine_decay).
#ifndef DAMO_SCHEDULE_SCHEDULE_FACTORY_H_
#define DAMO_SCHEDULE_SCHEDULE_FACTORY_H_

#include <memory>

#include "damo/schedule/schedule.h"

namespace damo {

// The schedule that parameters "name" names. Fails, listing what exists, on an unknown name or parameter, and
// on a value that breaks its rule.
StatusOr<std::unique_ptr<const Schedule>> MakeSchedule(const Parameters& parameters);

}  // namespace damo

#endif  // DAMO_SCHEDULE_SCHEDULE_FACTORY_H_
