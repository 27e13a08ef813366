// SPDX-License-Identifier: Apache-2.0
//
// Statuses in tests: ASSERT_OK(status); EXPECT_TRUE(FailsWith(status, code, "part of the message")).
#ifndef DAMO_BASE_TEST_STATUS_H_
#define DAMO_BASE_TEST_STATUS_H_

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "damo/base/status.h"

namespace damo {

inline testing::AssertionResult IsOk(const Status& status) {
  return status.ok() ? testing::AssertionSuccess() : testing::AssertionFailure() << status.ToString();
}

inline testing::AssertionResult FailsWith(const Status& status, StatusCode code, std::string_view text) {
  if (status.code() == code && status.message().find(text) != std::string::npos) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << status.ToString() << "\nexpected " << StatusCodeName(code)
                                     << ", with the text\n"
                                     << text;
}

}  // namespace damo

#define ASSERT_OK(expr) ASSERT_TRUE(::damo::IsOk(expr))

#endif  // DAMO_BASE_TEST_STATUS_H_
