// A program with a correct barrier (`barrier`), or with a data race in its place (`race`): shows that a thread
// sanitizer understands OpenMP. Built by .ci/run, not part of the library.
#include <cstring>

namespace {
int slots[4];
int total = 0;
}  // namespace

int main(int argc, char** argv) {
  const bool race = argc > 1 && std::strcmp(argv[1], "race") == 0;
#pragma omp parallel for num_threads(4)
  for (int i = 0; i < 4; ++i) slots[i] = 0;
#pragma omp parallel num_threads(4)
  {
#pragma omp for nowait
    for (int i = 0; i < 4; ++i) slots[i] = i + 1;
    if (!race) {
#pragma omp barrier
    }
    int sum = 0;
    for (const int slot : slots) sum += slot;
#pragma omp critical
    total += sum;
  }
  return race || total == 40 ? 0 : 1;
}
