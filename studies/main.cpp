// The program of one study; SIGNSPLIT_STUDY is its function.
#include "studies/study.hpp"

int main(int argc, char** argv) { return signsplit::studies::run_study(argc, argv, signsplit::studies::SIGNSPLIT_STUDY()); }
