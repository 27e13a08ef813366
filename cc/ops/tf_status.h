// SPDX-License-Identifier: Apache-2.0
//
// From the engine's Status to TensorFlow's, the only place where the ops do it.
#ifndef DAMO_OPS_TF_STATUS_H_
#define DAMO_OPS_TF_STATUS_H_

#include "absl/status/status.h"
#include "damo/base/catch_exceptions.h"
#include "damo/base/status.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace damo::ops {

inline absl::StatusCode ToAbslCode(StatusCode code) {
  switch (code) {
    case StatusCode::kOk:
      return absl::StatusCode::kOk;
    case StatusCode::kInvalidArgument:
      return absl::StatusCode::kInvalidArgument;
    case StatusCode::kNotFound:
      return absl::StatusCode::kNotFound;
    case StatusCode::kFailedPrecondition:
      return absl::StatusCode::kFailedPrecondition;
    case StatusCode::kDataLoss:
      return absl::StatusCode::kDataLoss;
    case StatusCode::kIoError:
      // Not Unavailable: coordinators retry that, and an apply that is retried may be applied twice.
      return absl::StatusCode::kUnknown;
    case StatusCode::kInternal:
      return absl::StatusCode::kInternal;
  }
  return absl::StatusCode::kUnknown;
}

inline absl::Status ToAbslStatus(const Status& status) {
  if (status.code() == StatusCode::kIoError) return absl::UnknownError(status.ToString());
  return absl::Status(ToAbslCode(status.code()), status.message());
}

// Runs the body of a Compute, which returns an absl::Status, and reports failures and escaped exceptions to
// `ctx`.
template <typename Body>
void RunKernel(tensorflow::OpKernelContext* ctx, Body&& body) {
  absl::Status result;
  const Status caught = CatchExceptions([&] {
    result = body();
    return Status();
  });
  result.Update(ToAbslStatus(caught));
  if (!result.ok()) ctx->CtxFailure(result);
}

}  // namespace damo::ops

#endif  // DAMO_OPS_TF_STATUS_H_
