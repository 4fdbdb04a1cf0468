# cmake -DOUTPUT=file.cpp -DPROFILES="a.json;b.json" -P EmbedProfiles.cmake
# Writes the profiles as raw strings, each under its file name without the extension.
set(text "// Written by EmbedProfiles.cmake from hardware/*.json.\n#include \"builtin_profiles.hpp\"\n\n")
string(APPEND text "namespace signsplit::sim {\nnamespace {\n\nconstexpr BuiltinProfile kProfiles[] = {\n")
foreach(file IN LISTS PROFILES)
  get_filename_component(name "${file}" NAME_WE)
  file(READ "${file}" json)
  string(APPEND text "    {\"${name}\", R\"profile(${json})profile\"},\n")
endforeach()
string(APPEND text "};\n\n}  // namespace\n\n")
string(APPEND text "std::span<const BuiltinProfile> builtin_profiles() noexcept { return kProfiles; }\n\n")
string(APPEND text "}  // namespace signsplit::sim\n")
file(WRITE "${OUTPUT}" "${text}")
