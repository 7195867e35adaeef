// As much of JSON as a model card needs.
#pragma once

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

struct Json {
    std::string text;  // of a string, and of true, false, null
    double number = 0;
    std::vector<Json> items;
    std::vector<std::pair<std::string, Json>> fields;

    explicit Json(const std::string& source) {
        const char* at = source.c_str();
        *this = Json(at);
    }
    const Json* find(const std::string& key) const {
        for (auto& [name, value] : fields)
            if (name == key) return &value;
        return nullptr;
    }
    const Json& operator[](const std::string& key) const {
        if (auto value = find(key)) return *value;
        throw std::runtime_error("the model card has no " + key);
    }

  private:
    explicit Json(const char*& at) {
        char open = next(at);
        if (open == '"') {
            text = string(at);
        } else if (open == '{' || open == '[') {
            for (at++; next(at) != '}' && *at != ']'; at += next(at) == ',') {
                if (!*at) throw std::runtime_error("the model card is cut off");
                if (open == '[') {
                    items.push_back(Json(at));
                    continue;
                }
                std::string key = string(at);
                at += next(at) == ':';
                fields.emplace_back(key, Json(at));
            }
            at++;
        } else if (open == '-' || (open >= '0' && open <= '9')) {
            char* end;
            number = std::strtod(at, &end);
            at = end;
        } else {
            while (*at >= 'a' && *at <= 'z') text += *at++;
            if (text.empty()) throw std::runtime_error("the model card is not JSON");
        }
    }
    static char next(const char*& at) {
        while (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t') at++;
        return *at;
    }
    static std::string string(const char*& at) {
        std::string result;
        for (at++; *at && *at != '"'; at++) {
            if (*at == '\\') result += *at++;  // an escape stays as it is written
            if (*at) result += *at;
        }
        if (*at) at++;
        return result;
    }
};
