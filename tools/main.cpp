#include "tools/command.hpp"

int main(int argc, char** argv) { return signsplit::tools::run_command(argc, argv); }
