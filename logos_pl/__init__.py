"""logos-pl: at which depth does a language model start to know its answer?"""
