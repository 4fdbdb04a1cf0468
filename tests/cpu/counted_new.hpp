// operator new of the whole program, counted.
#pragma once

namespace signsplit::test {

/// Calls of any operator new so far, by all threads.
long operator_new_calls();

}  // namespace signsplit::test
