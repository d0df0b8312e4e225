#include "ferry/rpc/method_table.h"

#include "absl/strings/str_cat.h"

namespace ferry {

absl::Status MethodTable::Add(Service& service) {
  for (const ServerMethod& method : service.ferry_methods()) {
    std::unique_ptr<ServedMethod>& served = methods_[method.descriptor->id];
    if (served != nullptr) {
      return absl::AlreadyExistsError(absl::StrCat("method ", method.descriptor->full_name, " has the id ",
                                                   absl::Hex(method.descriptor->id), " of ", served->name(),
                                                   ", which is registered already"));
    }
    served = std::make_unique<ServedMethod>(method, service, inline_guard_);
  }
  return absl::OkStatus();
}

absl::Status MethodTable::SetInline(const std::string& full_name, bool run_inline) {
  ServedMethod* method = Find(MethodId(full_name.c_str()));
  if (method == nullptr)
    return absl::NotFoundError(absl::StrCat("no registered service has the method ", full_name));
  method->run_inline = run_inline;
  return absl::OkStatus();
}

void MethodTable::PrepareFor(size_t loops) {
  for (auto& [id, method] : methods_) {
    while (method->recyclers.size() < loops) {
      method->recyclers.push_back(std::make_unique<CallRecycler>(method->method.new_call));
    }
  }
}

}  // namespace ferry
