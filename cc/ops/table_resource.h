// SPDX-License-Identifier: Apache-2.0
//
// TableResource: what a table handle leads to.
//
// A handle does not point to a TableResource itself but to a TensorFlow variable whose value, a scalar of
// type resource, points to it. For where a handle crosses a tf.while_loop, the gradient code of TensorFlow
// takes every resource for a variable and asks it for its shape, and fails on anything else.
#ifndef DAMO_OPS_TABLE_RESOURCE_H_
#define DAMO_OPS_TABLE_RESOURCE_H_

#include <memory>
#include <string>
#include <utility>

#include "damo/table/embedding_table.h"
#include "damo/table/store.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_base.h"
#include "tensorflow/core/framework/resource_handle.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"

namespace damo::ops {

// A table and the store it belongs to, which stays open as long as a handle to it lives. Thread-safe.
class TableResource final : public tensorflow::ResourceBase {
 public:
  TableResource(std::shared_ptr<Store> store, std::shared_ptr<EmbeddingTable> table)
      : store_(std::move(store)), table_(std::move(table)) {}

  EmbeddingTable& table() const { return *table_; }

  std::string DebugString() const override {
    return StrCat("group ", table_->group(), " of damo store '", store_->directory(), "'");
  }

 private:
  const std::shared_ptr<Store> store_;
  const std::shared_ptr<EmbeddingTable> table_;
};

using TablePtr = tensorflow::core::RefCountPtr<TableResource>;

// A new handle to `table`, of which it takes the caller's reference.
inline tensorflow::ResourceHandle MakeTableHandle(TableResource* table, const std::string& device) {
  using tensorflow::ResourceHandle;
  auto* const variable = new tensorflow::Var(tensorflow::DT_RESOURCE);
  *variable->tensor() = tensorflow::Tensor(tensorflow::DT_RESOURCE, tensorflow::TensorShape());
  variable->tensor()->scalar<ResourceHandle>()() = ResourceHandle::MakeRefCountingHandle(table, device);
  variable->is_initialized = true;
  return ResourceHandle::MakeRefCountingHandle(variable, device);
}

// The table that input `index` of the running kernel is a handle to.
inline absl::StatusOr<TablePtr> TableInput(tensorflow::OpKernelContext* ctx, int index) {
  if (!tensorflow::TensorShapeUtils::IsScalar(ctx->input(index).shape())) {
    return absl::InvalidArgumentError(
        StrCat("`table` must be a scalar. Received shape: ", ctx->input(index).shape().DebugString()));
  }
  tensorflow::core::RefCountPtr<tensorflow::Var> variable;
  TF_RETURN_IF_ERROR(LookupResource(ctx, tensorflow::HandleFromInput(ctx, index), &variable));
  const tensorflow::tf_shared_lock lock(*variable->mu());
  const tensorflow::Tensor& value = *variable->tensor();
  if (value.dtype() != tensorflow::DT_RESOURCE || value.dims() != 0) {
    return absl::InvalidArgumentError(StrCat(
        "`table` must be a table handle. Received: a handle to a variable, ", variable->DebugString()));
  }
  TF_ASSIGN_OR_RETURN(TableResource* const table,
                      value.scalar<tensorflow::ResourceHandle>()().GetResource<TableResource>());
  table->Ref();
  return TablePtr(table);
}

}  // namespace damo::ops

#endif  // DAMO_OPS_TABLE_RESOURCE_H_
