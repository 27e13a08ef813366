// SPDX-License-Identifier: Apache-2.0
//
// TableResource: what a table handle points to.
#ifndef DAMO_OPS_TABLE_RESOURCE_H_
#define DAMO_OPS_TABLE_RESOURCE_H_

#include <memory>
#include <string>
#include <utility>

#include "damo/table/embedding_table.h"
#include "damo/table/store.h"
#include "tensorflow/core/framework/resource_base.h"

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

}  // namespace damo::ops

#endif  // DAMO_OPS_TABLE_RESOURCE_H_
