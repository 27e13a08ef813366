// SPDX-License-Identifier: Apache-2.0
#include "damo/base/status.h"

#include <gtest/gtest.h>

#include <memory>

namespace damo {
namespace {

Status FailUnless(bool condition) {
  if (condition) return Status();
  return NotFound("row ", 7, " of group ", 3);
}

StatusOr<std::unique_ptr<int>> MakeInt(bool condition) {
  DAMO_RETURN_IF_ERROR(FailUnless(condition));
  return std::make_unique<int>(42);
}

StatusOr<int> Unwrap(bool condition) {
  DAMO_ASSIGN_OR_RETURN(const std::unique_ptr<int> value, MakeInt(condition));
  return *value;
}

TEST(StatusTest, DefaultIsOk) {
  const Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.code(), StatusCode::kOk);
  EXPECT_EQ(status.ToString(), "ok");
}

TEST(StatusTest, FailureCarriesCodeAndConcatenatedMessage) {
  const Status status = FailUnless(false);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "row 7 of group 3");
  EXPECT_EQ(status.ToString(), "not found: row 7 of group 3");
}

TEST(StatusTest, EveryMakerSetsItsCode) {
  EXPECT_EQ(InvalidArgument("x").ToString(), "invalid argument: x");
  EXPECT_EQ(NotFound("x").ToString(), "not found: x");
  EXPECT_EQ(FailedPrecondition("x").ToString(), "failed precondition: x");
  EXPECT_EQ(DataLoss("x").ToString(), "data loss: x");
  EXPECT_EQ(IoError("x").ToString(), "I/O error: x");
  EXPECT_EQ(Internal("x").ToString(), "internal error: x");
}

TEST(StatusTest, ContextIsPutBeforeTheMessageAndKeepsTheCode) {
  const Status status = DataLoss("row is 3 bytes").WithContext("open store '/x'");
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_EQ(status.message(), "open store '/x': row is 3 bytes");
  EXPECT_TRUE(Status().WithContext("open store '/x'").ok());
}

TEST(StatusOrTest, HoldsAValueOrTheFailure) {
  const StatusOr<int> value = Unwrap(true);
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(*value, 42);
  const StatusOr<int> failure = Unwrap(false);
  ASSERT_FALSE(failure.ok());
  EXPECT_EQ(failure.status().code(), StatusCode::kNotFound);
}

TEST(StatusOrTest, GivesUpAValueThatCanOnlyBeMoved) {
  StatusOr<std::unique_ptr<int>> result = MakeInt(true);
  ASSERT_TRUE(result.ok());
  const std::unique_ptr<int> value = std::move(*result);
  EXPECT_EQ(*value, 42);
}

}  // namespace
}  // namespace damo
