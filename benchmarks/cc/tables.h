// SPDX-License-Identifier: Apache-2.0
//
// Stores with a table of DAMO_BENCH_ROWS rows, whose keys are those of inputs.h.
#ifndef BENCHMARKS_CC_TABLES_H_
#define BENCHMARKS_CC_TABLES_H_

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "damo/base/executor.h"
#include "damo/base/thread_pool.h"
#include "damo/config/group_config.h"
#include "damo/config/store_options.h"
#include "damo/table/embedding_table.h"
#include "damo/table/store_registry.h"
#include "inputs.h"

namespace damo {

// A store in which nothing is logged, so that only the work in memory is measured.
inline std::shared_ptr<Store> OpenStore(const std::string& directory) {
  StoreOptions options;
  options.durability = Durability::kCheckpoint;
  return ValueOrDie(StoreRegistry::Global().Open(directory, options));
}

inline std::shared_ptr<EmbeddingTable> OpenTable(Store& store) {
  GroupConfig config;
  config.dim = kDim;
  config.optimizer = Parameters("adam");
  config.initializer = Parameters("random_uniform");
  return ValueOrDie(store.AddGroup(config));
}

// Gives every rank its row, in the order of the keys.
inline void Fill(EmbeddingTable& table, Executor& executor) {
  constexpr size_t kBatch = 1 << 18;
  std::vector<uint64_t> keys(NumRows());
  for (size_t rank = 0; rank < keys.size(); ++rank) keys[rank] = Scatter(rank);
  std::sort(keys.begin(), keys.end());
  const std::vector<float> gradients(kBatch * kDim, 1e-3f);
  for (size_t begin = 0; begin < keys.size(); begin += kBatch) {
    const size_t size = std::min(kBatch, keys.size() - begin);
    CheckOk(table.ApplyGradients({keys.data() + begin, size}, {gradients.data(), size * kDim}, {}, executor)
                .status());
  }
}

// The folder of a store that was filled and closed: all its rows are on the disk, none is in memory. The same
// one for all that ask.
inline const std::string& ClosedStore() {
  static const std::string directory = [] {
    std::string name = std::string(Environment("DAMO_BENCH_STORE")) + "-closed";
    const std::shared_ptr<Store> store = OpenStore(name);
    ThreadPool no_threads(0);
    Fill(*OpenTable(*store), no_threads);
    CheckOk(store->Close());
    return name;
  }();
  return directory;
}

}  // namespace damo

#endif  // BENCHMARKS_CC_TABLES_H_
