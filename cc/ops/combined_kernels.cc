// SPDX-License-Identifier: Apache-2.0
//
// CPU kernels of the ops in combined_ops.cc.
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "damo/combiner/bag.h"
#include "damo/table/embedding_table.h"
#include "ops/device_executor.h"
#include "ops/embedding_inputs.h"
#include "ops/table_resource.h"
#include "ops/tf_status.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor_shape.h"

namespace damo::ops {
namespace {

using tensorflow::DEVICE_CPU;
using tensorflow::OpInputList;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::TensorShapeUtils;

absl::StatusOr<std::vector<Combiner>> CombinersAttr(OpKernelConstruction* ctx) {
  std::vector<std::string> names;
  TF_RETURN_IF_ERROR(ctx->GetAttr("combiners", &names));
  std::vector<Combiner> combiners;
  for (const std::string& name : names) {  // no others are let through
    combiners.push_back(name == "sum" ? Combiner::kSum : name == "mean" ? Combiner::kMean : Combiner::kSqrtn);
  }
  return combiners;
}

absl::StatusOr<Span<const int64_t>> Int64VectorInput(OpKernelContext* ctx, int index, const char* name) {
  const Tensor& input = ctx->input(index);
  if (TensorShapeUtils::IsVector(input.shape())) {
    return Span<const int64_t>(input.vec<int64_t>().data(), static_cast<size_t>(input.NumElements()));
  }
  return absl::InvalidArgumentError(
      StrCat("`", name, "` must be a vector. Received shape: ", input.shape().DebugString()));
}

// The combiner of each bag: combiners[i] is that of num_bags[i] bags.
absl::StatusOr<std::vector<Combiner>> SpreadCombiners(const std::vector<Combiner>& combiners,
                                                      Span<const int64_t> num_bags, int64_t total) {
  if (num_bags.size() != combiners.size()) {
    return absl::InvalidArgumentError(StrCat("`num_bags` must hold one number for each of ", combiners.size(),
                                             " combiners. Received: ", num_bags.size()));
  }
  std::vector<Combiner> of_bags;
  of_bags.reserve(total);
  for (size_t i = 0; i < combiners.size(); ++i) {
    if (num_bags[i] < 0 || num_bags[i] > total - static_cast<int64_t>(of_bags.size())) break;
    of_bags.insert(of_bags.end(), num_bags[i], combiners[i]);
  }
  if (static_cast<int64_t>(of_bags.size()) == total) return of_bags;
  return absl::InvalidArgumentError(
      StrCat("`num_bags` must be >= 0 and add up to one less than `splits` has, ", total));
}

// The inputs 1 to 3, keys, splits and num_bags, and the list `weights`.
struct BagsInput {
  BagsInput() = default;
  BagsInput(BagsInput&&) = default;  // and no copy, whose bags would point to another's combiners

  Span<const uint64_t> keys;
  std::vector<Combiner> combiners;  // of each bag
  Bags bags;
  int num_weights = 0;
};

absl::StatusOr<BagsInput> ReadBags(OpKernelContext* ctx, const std::vector<Combiner>& combiners) {
  BagsInput input;
  TF_RETURN_IF_ERROR(Int64VectorInput(ctx, 1, "keys").status());
  input.keys = KeySpan<int64_t>(ctx->input(1));
  TF_ASSIGN_OR_RETURN(input.bags.splits, Int64VectorInput(ctx, 2, "splits"));
  TF_ASSIGN_OR_RETURN(const Span<const int64_t> num_bags, Int64VectorInput(ctx, 3, "num_bags"));
  if (input.bags.splits.empty()) return absl::InvalidArgumentError("`splits` must not be empty");
  const auto total = static_cast<int64_t>(input.bags.splits.size()) - 1;
  TF_ASSIGN_OR_RETURN(input.combiners, SpreadCombiners(combiners, num_bags, total));
  input.bags.combiners = input.combiners;
  OpInputList weights;
  TF_RETURN_IF_ERROR(ctx->input_list("weights", &weights));
  input.num_weights = weights.size();
  if (weights.size() > 1) {
    return absl::InvalidArgumentError(
        StrCat("`weights` must hold at most one tensor. Received: ", weights.size()));
  }
  if (weights.size() == 1) {
    if (weights[0].shape() != ctx->input(1).shape()) {
      return absl::InvalidArgumentError(StrCat("`weights` must have the shape of keys, ",
                                               ctx->input(1).shape().DebugString(),
                                               ". Received shape: ", weights[0].shape().DebugString()));
    }
    input.bags.weights = FloatSpan(weights[0]);
  }
  return absl::StatusOr<BagsInput>(std::move(input));
}

// [number of bags, dim]
TensorShape CombinedShape(const Bags& bags, int64_t dim) { return TensorShape({bags.size(), dim}); }

absl::StatusOr<Span<const float>> GradientsInput(OpKernelContext* ctx, int index, const TensorShape& shape) {
  const Tensor& gradients = ctx->input(index);
  if (gradients.shape() == shape) return FloatSpan(gradients);
  return absl::InvalidArgumentError(
      StrCat("`gradients` must have shape [number of bags, dim] = ", shape.DebugString(),
             ". Received shape: ", gradients.shape().DebugString()));
}

class EmbeddingLookupCombinedOp final : public OpKernel {
 public:
  explicit EmbeddingLookupCombinedOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    OP_REQUIRES_OK(ctx, ctx->GetAttr("dim", &dim_));
    KeepAttr(ctx, LookupOptionsAttrs(ctx), &options_);
    KeepAttr(ctx, CombinersAttr(ctx), &combiners_);
  }

  void Compute(OpKernelContext* ctx) override {
    RunKernel(ctx, [&] { return Lookup(ctx); });
  }

 private:
  absl::Status Lookup(OpKernelContext* ctx) const {
    TF_ASSIGN_OR_RETURN(const TablePtr resource, LookupTableInput(ctx, dim_, /*anchor_index=*/4));
    TF_ASSIGN_OR_RETURN(const BagsInput input, ReadBags(ctx, combiners_));
    // For the gradient only; refused here, a bad one stops the step before anything has changed.
    TF_RETURN_IF_ERROR(LearningRateInput(ctx, 5 + input.num_weights).status());
    Tensor* combined = nullptr;
    TF_RETURN_IF_ERROR(ctx->allocate_output(0, CombinedShape(input.bags, dim_), &combined));
    TF_RETURN_IF_ERROR(SetProbe(ctx));
    DeviceExecutor executor(ctx);
    return ToAbslStatus(
        resource->table().LookupCombined(input.keys, input.bags, options_, executor, FloatSpan(combined)));
  }

  int64_t dim_ = 0;
  LookupOptions options_;
  std::vector<Combiner> combiners_;
};

class EmbeddingApplyCombinedGradientsOp final : public OpKernel {
 public:
  explicit EmbeddingApplyCombinedGradientsOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    KeepAttr(ctx, PaddingKeyAttr(ctx), &padding_key_);
    KeepAttr(ctx, CombinersAttr(ctx), &combiners_);
  }

  void Compute(OpKernelContext* ctx) override {
    RunKernel(ctx, [&] { return Apply(ctx); });
  }

 private:
  absl::Status Apply(OpKernelContext* ctx) const {
    TF_ASSIGN_OR_RETURN(const TablePtr resource, TableInput(ctx, 0));
    EmbeddingTable& table = resource->table();
    TF_ASSIGN_OR_RETURN(const BagsInput input, ReadBags(ctx, combiners_));
    TF_ASSIGN_OR_RETURN(const Span<const float> gradients,
                        GradientsInput(ctx, 4, CombinedShape(input.bags, table.dim())));
    DeviceExecutor executor(ctx);
    const auto apply = [&](const ApplyOptions& options) {
      return table.ApplyCombinedGradients(input.keys, input.bags, gradients, options, executor);
    };
    return TakeStep(ctx, 5, 6 + input.num_weights, padding_key_, apply);
  }

  std::optional<uint64_t> padding_key_;
  std::vector<Combiner> combiners_;
};

class EmbeddingWeightsGradientOp final : public OpKernel {
 public:
  explicit EmbeddingWeightsGradientOp(OpKernelConstruction* ctx) : OpKernel(ctx) {
    KeepAttr(ctx, LookupOptionsAttrs(ctx), &options_);
    KeepAttr(ctx, CombinersAttr(ctx), &combiners_);
  }

  void Compute(OpKernelContext* ctx) override {
    RunKernel(ctx, [&]() -> absl::Status {
      TF_ASSIGN_OR_RETURN(const TablePtr resource, TableInput(ctx, 0));
      const EmbeddingTable& table = resource->table();
      TF_ASSIGN_OR_RETURN(const BagsInput input, ReadBags(ctx, combiners_));
      TF_ASSIGN_OR_RETURN(const Span<const float> gradients,
                          GradientsInput(ctx, 4, CombinedShape(input.bags, table.dim())));
      Tensor* weights_gradient = nullptr;
      TF_RETURN_IF_ERROR(ctx->allocate_output(0, ctx->input(1).shape(), &weights_gradient));
      DeviceExecutor executor(ctx);
      return ToAbslStatus(table.ComputeWeightsGradient(input.keys, input.bags, gradients, options_, executor,
                                                       FloatSpan(weights_gradient)));
    });
  }

 private:
  LookupOptions options_;
  std::vector<Combiner> combiners_;
};

REGISTER_KERNEL_BUILDER(Name("DamoEmbeddingLookupCombined").Device(DEVICE_CPU), EmbeddingLookupCombinedOp);
REGISTER_KERNEL_BUILDER(Name("DamoEmbeddingApplyCombinedGradients").Device(DEVICE_CPU),
                        EmbeddingApplyCombinedGradientsOp);
REGISTER_KERNEL_BUILDER(Name("DamoEmbeddingWeightsGradient").Device(DEVICE_CPU), EmbeddingWeightsGradientOp);

}  // namespace
}  // namespace damo::ops
