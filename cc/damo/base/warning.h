// SPDX-License-Identifier: Apache-2.0
//
// Warnings: what is no failure, and should not go unnoticed either.
#ifndef DAMO_BASE_WARNING_H_
#define DAMO_BASE_WARNING_H_

#include <string_view>

namespace damo {

// Prints one line on stderr, "damo_tf: warning: " and the message. For what happens once in the life of a
// thing: nobody reads the same line twice. Thread-safe.
void Warn(std::string_view message);

}  // namespace damo

#endif  // DAMO_BASE_WARNING_H_
