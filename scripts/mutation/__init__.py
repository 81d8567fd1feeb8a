"""Mutation test of the fold: does every change of the domain change a golden hash?"""
