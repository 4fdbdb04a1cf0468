# signsplit_test(name SOURCES file... LABELS label... [LIBRARIES target...] [TIMEOUT seconds] [SERIAL])
#
# One executable and one ctest entry per subject. The shared main (tests/test_main.cpp) prints the seed, and fails when
# no test case ran, so that a filter or a lost file cannot pass for success.
# SERIAL: starts no thread, so that the thread sanitizer has nothing to find in it; main fails when there is another one.
function(signsplit_test name)
  cmake_parse_arguments(arg "SERIAL" "TIMEOUT" "SOURCES;LABELS;LIBRARIES" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 600)
  endif()
  add_executable(test_${name} ${arg_SOURCES})
  target_link_libraries(test_${name} PRIVATE signsplit_test_main signsplit_compile_options ${arg_LIBRARIES})
  target_include_directories(test_${name} PRIVATE "${PROJECT_SOURCE_DIR}/tests")
  if((arg_SERIAL AND SIGNSPLIT_SANITIZE MATCHES "thread") OR (SIGNSPLIT_SANITIZE AND "slow" IN_LIST arg_LABELS))
    set_target_properties(test_${name} PROPERTIES EXCLUDE_FROM_ALL TRUE)  # not run there: the presets leave out slow ones
    return()
  endif()
  add_test(NAME ${name} COMMAND test_${name})
  if(arg_SERIAL)
    set_tests_properties(${name} PROPERTIES ENVIRONMENT SIGNSPLIT_TEST_SERIAL=1)
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${arg_LABELS}" TIMEOUT ${arg_TIMEOUT} SKIP_RETURN_CODE 77)
endfunction()
