// SPDX-License-Identifier: Apache-2.0
//
// CPU kernels of the ops in feature_ops.cc.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "damo/base/status.h"
#include "damo/feature/feature_hasher.h"
#include "ops/device_executor.h"
#include "ops/tf_status.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace damo::ops {
namespace {

using tensorflow::DEVICE_CPU;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::tstring;

// Some 100 us of hashing: below, handing a part to another thread costs more than it saves.
constexpr int64_t kMinBlock = 4096;

std::string_view ToHashable(const tstring& value) { return {value.data(), value.size()}; }
int64_t ToHashable(int64_t value) { return value; }
uint64_t ToHashable(uint64_t value) { return value; }

absl::StatusOr<std::optional<FeaturePadding>> PaddingAttrs(OpKernelConstruction* ctx) {
  std::vector<std::string> values;
  TF_RETURN_IF_ERROR(ctx->GetAttr("padding_value", &values));
  int64_t key = 0;
  TF_RETURN_IF_ERROR(ctx->GetAttr("padding_key", &key));
  if (values.empty()) return std::nullopt;
  if (values.size() == 1) return FeaturePadding{values[0], static_cast<uint64_t>(key)};
  return absl::InvalidArgumentError(
      StrCat("`padding_value` must hold at most one value. Received: ", values.size()));
}

template <typename Value, typename Key>
class FeatureHashOp final : public OpKernel {
 public:
  explicit FeatureHashOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    std::string field;
    OP_REQUIRES_OK(ctx, ctx->GetAttr("field", &field));
    const auto padding = PaddingAttrs(ctx);
    OP_REQUIRES_OK(ctx, padding.status());
    hasher_.emplace(field, *padding);
  }

  void Compute(OpKernelContext* ctx) override {
    RunKernel(ctx, [&]() -> absl::Status {
      const Tensor& values = ctx->input(0);
      Tensor* keys = nullptr;
      TF_RETURN_IF_ERROR(ctx->allocate_output(0, values.shape(), &keys));
      const auto in = values.flat<Value>();
      auto out = keys->flat<Key>();
      DeviceExecutor executor(ctx);
      executor.ParallelFor(in.size(), kMinBlock, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) out(i) = static_cast<Key>(hasher_->Key(ToHashable(in(i))));
      });
      return absl::OkStatus();
    });
  }

 private:
  std::optional<FeatureHasher> hasher_;  // always there once the kernel is made
};

#define DAMO_REGISTER_FEATURE_HASH(Value, Key)                  \
  REGISTER_KERNEL_BUILDER(Name("DamoFeatureHash")               \
                              .Device(DEVICE_CPU)               \
                              .TypeConstraint<Value>("Tvalues") \
                              .TypeConstraint<Key>("Tkeys"),    \
                          FeatureHashOp<Value, Key>)

DAMO_REGISTER_FEATURE_HASH(tstring, int64_t);
DAMO_REGISTER_FEATURE_HASH(tstring, uint64_t);
DAMO_REGISTER_FEATURE_HASH(int64_t, int64_t);
DAMO_REGISTER_FEATURE_HASH(int64_t, uint64_t);
DAMO_REGISTER_FEATURE_HASH(uint64_t, int64_t);
DAMO_REGISTER_FEATURE_HASH(uint64_t, uint64_t);

#undef DAMO_REGISTER_FEATURE_HASH

}  // namespace
}  // namespace damo::ops
